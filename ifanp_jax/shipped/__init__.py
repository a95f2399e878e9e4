"""Shipped models: `NAME.safetensors` and `NAME.md`, the card, lie in this folder and in every wheel.

A `NAME_licence.txt` lies beside them where the weights have a licence of their own.
"""

import pathlib

from ifanp_jax.errors import UserError

FOLDER = pathlib.Path(__file__).parent
SUFFIX = ".safetensors"


def list_names() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def find(name: str) -> pathlib.Path:
    """The file of a model.

    Args:
      name: of `list_names()`, or the path of a file of the same format.

    Raises:
      UserError: when there is none.
    """
    if str(name) in list_names():
        return FOLDER / f"{name}{SUFFIX}"
    path = pathlib.Path(name).expanduser()
    if path.suffix == SUFFIX and path.is_file():
        return path
    names = list_names()
    allowed = f"choose one of {', '.join(names)}" if names else "this installation ships none"
    raise UserError(
        f"There is no model {str(name)!r}; {allowed}, or give the path of a {SUFFIX} file, or a training by "
        "--workdir or ifanp_jax.load."
    )
