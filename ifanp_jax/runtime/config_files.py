"""Configuration files: those of a user by their path, shipped ones by their name."""

import importlib.util
import pathlib
import sys
from collections.abc import Iterator, Sequence

from ifanp_jax.errors import UserError

PACKAGE = "configs"  # what configuration files import each other from


def shipped_folder() -> pathlib.Path:
    """The folder of the shipped files: inside the installed package, or beside it in a clone."""
    package = pathlib.Path(__file__).resolve().parents[1]
    installed = package / PACKAGE
    return installed if installed.is_dir() else package.parent / PACKAGE


def list_shipped() -> list[str]:
    """Names of the shipped configurations."""
    return sorted(path.stem for path in shipped_folder().glob("[!_]*.py"))


def make_importable() -> None:
    """Lets a configuration file anywhere say `from configs import default` for the shipped one."""
    spec = importlib.util.spec_from_file_location(PACKAGE, shipped_folder() / "__init__.py")
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACKAGE])


def resolve(value: str) -> str:
    """Finds the file of a configuration.

    Args:
      value: a path or the name of a shipped configuration, with ":ARGUMENT" behind it or without.

    Returns:
      The path, with the same argument.

    Raises:
      UserError: when it is neither.
    """
    name, colon, argument = value.partition(":")
    path = pathlib.Path(name).expanduser()
    if not path.is_file():
        if name not in list_shipped():
            raise UserError(
                f"--config={value} is no file and no shipped configuration; give a path, or one of "
                f"{', '.join(list_shipped())}."
            )
        path = shipped_folder() / f"{name}.py"
    return f"{path}{colon}{argument}"


def resolve_flags(arguments: Sequence[str]) -> Iterator[str]:
    """Replaces the value of --config by its file; "--config VALUE" becomes "--config=PATH".

    Args:
      arguments: of the command line.

    Yields:
      The arguments.

    Raises:
      UserError: as `resolve`.
    """
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            argument = f"{name}={resolve(value if equals else next(rest, ''))}"
        yield argument
