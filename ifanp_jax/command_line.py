"""What the commands share: the flags of every one, and errors of one sentence."""

import faulthandler
import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import absl.logging
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from ifanp_jax import errors
from ifanp_jax.errors import UserError
from ifanp_jax.runtime import heartbeat, huge_pages, signals

logger = logging.getLogger("ifanp_jax")

HELP = {"?", "help", "helpfull", "helpshort", "helpxml"}
NUMBERS = {"int": "a whole number", "float": "a number"}

_CONFIG_HELP = "Configuration: a file, or the name of a shipped one such as digits_ifanp."
_CONFIG = flags.DEFINE_string("config", None, _CONFIG_HELP)  # `_take_config` puts the configuration here
_COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache", "", "Folder of your own for compiled programs: a second start compiles nothing."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "host:port of process 0; TPU pods, GKE, Slurm and Open MPI need none of these three."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "Processes of the run, with --coordinator.")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Number of this one from 0, with --coordinator.")
_HEARTBEAT = flags.DEFINE_float(
    "heartbeat_seconds",
    60,
    "Several processes: silence after which one counts as gone (exit status 75).",
    lower_bound=1,
)
_STALL = flags.DEFINE_float(
    "stall_seconds",
    1800,
    "Several processes: time without a step after which the run counts as stuck.",
    lower_bound=1,
)


def get_config() -> ConfigDict | None:
    """The configuration that --config names, with what other flags set; None where the flag is missing."""
    return _CONFIG.value


def get_overrides() -> dict[str, Any]:
    """The values that flags such as --config.train.num_steps=2000 set, by dotted name."""
    return {} if _CONFIG.value is None else config_flags.get_override_values(flags.FLAGS["config"])


def start_jax() -> None:
    """Follows the flags that must be followed before JAX is used."""
    from ifanp_jax.runtime import compilation_cache, device_mesh

    if _COMPILATION_CACHE.value:
        compilation_cache.enable(_COMPILATION_CACHE.value)
    device_mesh.initialize(
        coordinator=_COORDINATOR.value,
        num_processes=_NUM_PROCESSES.value,
        process_id=_PROCESS_ID.value,
        heartbeat_seconds=_HEARTBEAT.value,
    )
    signals.install()  # again: JAX has taken SIGTERM for itself
    heartbeat.watch(heartbeat_seconds=_HEARTBEAT.value, stall_seconds=_STALL.value)
    if not device_mesh.is_first_process():
        logger.setLevel(logging.WARNING)  # one process tells of all


def run(command: Callable[[], None]) -> None:
    """Parses the flags and runs a command: quiet libraries; a UserError is one sentence and exit status 1."""
    if not HELP & {argument.lstrip("-") for argument in sys.argv}:
        huge_pages.ask_for_them()
    _show_flags_of(command.__module__)
    _quieten_libraries()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    signals.install()
    app.run(functools.partial(_run_command, command), flags_parser=_parse_flags)


def _show_flags_of(module: str) -> None:
    """Has --help list the flags of a module also where a console script was started in its place."""
    if module == "__main__":
        return
    sys.modules["__main__"].__doc__ = sys.modules[module].__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(module):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _quieten_libraries() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Orbax writes forty lines per checkpoint, and dumps from its threads what it raises as well.
    absl.logging.set_verbosity(absl.logging.FATAL)
    sys.unraisablehook = _print_unless_late


def _print_unless_late(unraisable):
    """Where one array cannot be written, Orbax leaves the others to report to a closed event loop."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _run_command(command, argv):
    faulthandler.disable()  # absl's: where JAX ends a process it would hide the reason under every stack
    try:
        if len(argv) > 1:
            raise UserError(f"{argv[1]!r} is no flag; write --name=value.")
        with errors.full_device("take a smaller batch, model or images"):
            command()
    except UserError as error:
        _exit_with(error)
    except OSError as error:
        if error.errno is None:  # a download, not a file
            raise
        _exit_with(errors.of_file(error.errno, _explain_os_error(error)))
    except Exception as error:
        heartbeat.await_watch(error)
        raise


def _exit_with(error: UserError):
    print(f"error: {error}", file=sys.stderr, flush=True)
    heartbeat.exit_alone(error.exit_status)
    sys.exit(error.exit_status)


def _explain_os_error(error):
    name = f"{error.filename}: " if error.filename else ""
    return (
        f"{name}{error.strerror or error}; make room, or give a place that can be read and written, and run "
        "the same command again: what was saved is whole."
    )


def _parse_flags(argv):
    """Parses as absl does, with one sentence where a configuration or a flag is wrong."""
    given = argv[1:]
    try:
        given = flags.FLAGS.read_flags_from_files(_name_mode(given), force_gnu=False)
        return flags.FLAGS([argv[0], *_take_config(given)])
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and HELP & {argument.lstrip("-") for argument in given}:
            sys.exit(0)  # absl ends with 1
        _exit_with(_explain(error, given))


def _name_mode(arguments):
    """`serve` is short for --mode=serve, and so with every mode."""
    modes = flags.FLAGS["mode"].parser.enum_values if "mode" in flags.FLAGS else ()
    return [f"--mode={arguments[0]}", *arguments[1:]] if arguments and arguments[0] in modes else arguments


def _take_config(arguments: Sequence[str]) -> list[str]:
    """Loads what --config names and makes a flag of each field that is set; returns the other arguments."""
    rest, names, left = [], [], iter(arguments)
    for argument in left:
        flag, equals, value = argument.partition("=")
        if flag in ("--config", "-config"):
            names.append(value if equals else next(left, ""))
        else:
            rest.append(argument)
    fields = [found[2] for found in map(re.compile("--?(no)?(config[.][^=]*)").match, rest) if found]
    if names:
        from ifanp_jax import presets  # here, since it imports all that a model needs

        config = presets.load(names[-1])
        for field in fields:
            _check_field(config, field)
        config_flags.DEFINE_config_dict("config", config, _CONFIG_HELP, sys_argv=rest, allow_override=True)
    elif fields:
        raise UserError(f"--{fields[0]} needs --config=NAME_OR_FILE.")
    return rest


def _check_field(config: ConfigDict, name: str) -> None:
    """Refuses a field that a configuration does not have, and says which it has."""
    prefix, *parts = name.partition("[")[0].split(".")
    for part in parts:
        if not isinstance(config, ConfigDict) or part not in config:
            has = f"has {', '.join(config)}" if isinstance(config, ConfigDict) else "holds a value"
            raise UserError(f"--{name} is no field of the configuration; {prefix} {has}.")
        prefix, config = f"{prefix}.{part}", config[part]


def _explain(error: BaseException, arguments: Sequence[str]) -> UserError:
    """The error to show for what absl and ml_collections raise."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, flags.UnrecognizedFlagError):
        return UserError(f"--{error.flagname} is no flag; --help lists them all.")
    for argument in arguments:
        name, _, value = argument.lstrip("-").partition("=")
        if kind := argument.startswith("-") and _wrong_number(name, value):
            return UserError(f"--{name} is {value!r}; it must be {kind}.")
    return UserError(f"{' '.join(str(error).split()).rstrip('.') or type(error).__name__}.")


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
