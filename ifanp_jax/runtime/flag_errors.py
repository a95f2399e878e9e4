"""What is wrong with the flags of a command line, in one sentence."""

import runpy
from collections.abc import Iterator, Sequence

from absl import flags
from ml_collections import ConfigDict

from ifanp_jax import errors
from ifanp_jax.errors import UserError

NUMBERS = {"int": "a whole number", "float": "a number"}


def explain(error: BaseException, arguments: Sequence[str]) -> UserError:
    """The error to show for what absl and ml_collections raise.

    Args:
      error: that parsing the flags ended with; a configuration file is Python and may raise anything.
      arguments: of the command line, where --config is a path.
    """
    causes = list(_causes(error))
    for cause in reversed(causes):
        if isinstance(cause, UserError):  # of the configuration file, from which ml_collections makes a dump
            return cause
    if isinstance(error, flags.UnrecognizedFlagError):
        if error.flagname.startswith("config."):
            return UserError(f"--{error.flagname} needs --config=NAME_OR_FILE before it.")
        return UserError(f"--{error.flagname} is no flag; --help lists them all.")
    given = [argument.lstrip("-").partition("=")[::2] for argument in arguments if argument.startswith("-")]
    for name, value in given:
        if kind := _wrong_number(name, value):
            return UserError(f"--{name} is {value!r}; it must be {kind}.")
    configs = [value for name, value in given if name == "config"]
    config = _load(configs[-1]) if configs else None
    if configs and config is None:
        return UserError(f"--config={configs[-1]} cannot be used: {errors.first_line(causes[-1])}.")
    fields = [name for name, _ in given if name.startswith("config.")] if configs else []
    for name in fields:
        if allowed := _explain_missing(config, name):
            return UserError(f"--{name} is no field of the configuration; {allowed}.")
    return UserError(f"{' '.join(str(error).split()).rstrip('.') or type(error).__name__}.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _wrong_number(name: str, value: str) -> str | None:
    """What a flag must be, where that is a number and its value is none."""
    parser = flags.FLAGS[name].parser if name in flags.FLAGS else None
    if parser is None or parser.flag_type() not in NUMBERS:
        return None
    try:
        parser.convert(value)
    except ValueError:
        return NUMBERS[parser.flag_type()]
    return None


def _load(config: str) -> ConfigDict | None:
    """The configuration without the changes of the command line, or None where it cannot be loaded."""
    path, colon, argument = config.partition(":")
    try:
        loaded = runpy.run_path(path)["get_config"](*[argument] * bool(colon))
    except (Exception, SystemExit):  # it is Python and may raise anything
        return None
    return loaded if isinstance(loaded, ConfigDict) else None


def _explain_missing(config: ConfigDict, name: str) -> str | None:
    """What there is in place of a field that there is not."""
    prefix, *parts = name.partition("[")[0].split(".")
    for part in parts:
        if not isinstance(config, ConfigDict):
            return f"{prefix} holds a value"
        if part not in config:
            return f"{prefix} has {', '.join(config)}"
        prefix, config = f"{prefix}.{part}", config[part]
    return None
