"""Configuration files: those of a user by their path, shipped ones by their name."""

import contextlib
import importlib.util
import pathlib
import runpy
import sys
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from ifanp_jax.errors import UserError, first_line

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


def load(value: str) -> ConfigDict:
    """Loads a configuration without a command line.

    Args:
      value: as of `resolve`.

    Raises:
      UserError: there is no such file, or it makes no configuration.
    """
    path, colon, argument = resolve(value).partition(":")
    try:
        with _importable():
            config = runpy.run_path(path)["get_config"](*[argument] * bool(colon))
    except UserError:
        raise
    except Exception as error:  # it is Python and may raise anything
        raise UserError(f"The configuration {value} cannot be used: {first_line(error)}.") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"The configuration {value} cannot be used: get_config returns no ConfigDict.")
    return config


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """`make_importable` for a while: a program may have a package `configs` of its own."""

    def take_out():
        names = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
        return {name: sys.modules.pop(name) for name in names}

    own = take_out()
    try:
        make_importable()
        yield
    finally:
        take_out()
        sys.modules.update(own)


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
