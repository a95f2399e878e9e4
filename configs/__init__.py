"""The shipped configurations; `ifanp_jax.configs` where the package is installed.

They import each other from `configs`, under whichever of the two names Python found this folder.
"""

import sys

sys.modules.setdefault("configs", sys.modules[__name__])
