"""Image-faced (attentive) neural processes for image completion, in JAX and Flax.

`ifanp_jax.load("runs/digits").complete(image, mask, num_samples=8)` completes an image with a trained model.
"""

import importlib

from ifanp_jax.errors import UserError
from ifanp_jax.version import __version__

__all__ = ["UserError", "__version__", "load"]

_ELSEWHERE = {"calibration": "ifanp_jax.metrics.calibration"}  # modules by the name that a user imports


def load(path):
    """Loads the newest checkpoint of a training, or an exported model, as a `completion.CompletionModel`.

    Args:
      path: the `--workdir` of a training, or the `--output` of `--mode=export`.

    Raises:
      UserError: when neither can be read there.
    """
    import pathlib

    from ifanp_jax.completion import CompletionModel, export  # here, so that importing the package is cheap
    from ifanp_jax.training import runs

    path = pathlib.Path(path).expanduser()
    return export.read(path) if export.is_export(path) else CompletionModel.from_run(runs.load(path))


def __getattr__(name):
    """Imports a module of `_ELSEWHERE` when it is asked for."""
    if name in _ELSEWHERE:
        return importlib.import_module(_ELSEWHERE[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
