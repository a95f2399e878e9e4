"""Image-faced (attentive) neural processes for image completion, in JAX and Flax.

`ifanp_jax.from_pretrained("photos").complete(image, mask)` completes an image with a shipped model, and
`ifanp_jax.load("runs/digits").complete(image, mask, num_samples=8)` with one of your own.
"""

import importlib

from ifanp_jax.errors import UserError
from ifanp_jax.version import __version__

__all__ = ["Model", "UserError", "__version__", "from_pretrained", "list_pretrained", "load", "train"]

# What is imported when it is asked for, so that importing the package is cheap.
_ELSEWHERE = {
    "Model": ("ifanp_jax.inference.model", "Model"),
    "calibration": ("ifanp_jax.metrics.calibration", ""),
    "train": ("ifanp_jax.api", "train"),
}


def load(path):
    """Loads a trained model as a `Model`.

    Args:
      path: the `--workdir` of a training, whose newest checkpoint counts; the `--output` of `--mode=export`;
        or a .safetensors file.

    Raises:
      UserError: when none of these can be read there.
    """
    import pathlib

    path = pathlib.Path(path).expanduser()
    if str(path) in list_pretrained() and not path.exists():
        raise UserError(
            f"{path} is no folder but a shipped model; ifanp_jax.from_pretrained({str(path)!r}) loads it."
        )
    from ifanp_jax.inference import store

    if file := store.find_file(path):
        return store.read(file)
    from ifanp_jax.training import runs

    return runs.load(path).model


def list_pretrained():
    """Names of the models that come with the package."""
    from ifanp_jax import shipped

    return shipped.list_names()


def from_pretrained(name):
    """Loads a model that comes with the package, as a `Model`; nothing is downloaded.

    Args:
      name: of `list_pretrained()`, or the path of a .safetensors file.

    Raises:
      UserError: when there is none of that name, or its file is damaged.
    """
    from ifanp_jax import shipped
    from ifanp_jax.inference import store

    return store.read(shipped.find(name))


def __getattr__(name):
    """Imports what `_ELSEWHERE` names when it is asked for."""
    if name in _ELSEWHERE:
        module, member = _ELSEWHERE[name]
        found = importlib.import_module(module)
        return getattr(found, member) if member else found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
