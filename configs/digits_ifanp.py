"""IFANP on the embedded 8x8 digits: no download, 80 seconds on two CPU cores.

    python -m ifanp_jax.main --config=configs/digits_ifanp.py --workdir=runs/digits_ifanp

Reaches 14.3 / 18.0 / 21.6 dB at 20 / 40 / 60 % observed, observed pixels kept. The other models:
`--config=configs/digits.py:point_np.ANP`.
"""

from ifanp_jax import presets


def get_config():
    """Returns the configuration."""
    return presets.load("digits:image_np.IFANP")
