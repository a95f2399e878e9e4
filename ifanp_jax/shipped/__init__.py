"""Shipped models: `NAME.safetensors` and `NAME.md`, the card, lie in this folder and in every wheel.

A `NAME_licence.txt` lies beside them where the weights have a licence of their own.
"""

import functools
import logging
import pathlib

from ifanp_jax.errors import UserError

logger = logging.getLogger(__name__)

FOLDER = pathlib.Path(__file__).parent
SUFFIX = ".safetensors"


def list_names() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def find(name: str) -> pathlib.Path:
    """The file of a model.

    Args:
      name: of `list_names()`, or the path of a file that the same command made.

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


def read(name: str):
    """Reads a model, and says its licence once.

    Args:
      name: as of `find`.

    Raises:
      UserError: when there is none of that name, or its file is damaged.
    """
    from ifanp_jax.inference import weights

    path = find(name)
    model, record = weights.read(path)
    _tell_licence(path, record["licence"], record["notice"])
    return model


def read_any(name: str):
    """Reads what a training starts from, `config.train.init_from`, as a `Model`.

    Args:
      name: of `list_names()`, or the path of a file as of `find`, of a training's folder or of an export's.
        A folder called as a shipped model is "./NAME".

    Raises:
      UserError: when there is none of these, or it cannot be read.
    """
    from ifanp_jax.training import runs

    path = pathlib.Path(name).expanduser()
    if name in list_names() or path.is_file():
        return read(name)
    if not path.is_dir():
        raise UserError(
            f"config.train.init_from is {name!r}; choose a shipped model ({', '.join(list_names())}), or "
            "give the folder of a training or of an export."
        )
    return runs.load_model(path)


@functools.cache  # once in a process
def _tell_licence(path, licence, notice):
    place = path.with_name(f"{path.stem}_licence.txt")
    place = place if place.is_file() else path.with_suffix(".md")
    level = logging.WARNING if notice else logging.INFO  # a program without a log shows warnings alone
    logger.log(level, "%s", " ".join(filter(None, [notice, f"Licence of {path.stem}: {licence}, {place}"])))
