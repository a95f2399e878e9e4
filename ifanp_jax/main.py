"""The command line: `python -m ifanp_jax.main --config=configs/digits_ifanp.py --workdir=runs/digits`."""

import logging
import os
import pathlib
import re
import sys

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from ifanp_jax.errors import UserError

logger = logging.getLogger("ifanp_jax")

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, for example configs/digits_ifanp.py."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, tables, figures.")
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "complete"],
    "train (then evaluate and draw), evaluate (and draw) a run, or complete your own pictures with it.",
)
_INPUT = flags.DEFINE_string("input", None, "complete: a picture or a folder of pictures.")
_MASK = flags.DEFINE_string(
    "mask",
    "",
    "complete: mask picture or folder of them, white = observed; else the alpha channel, opaque = observed.",
)
_INVERT_MASK = flags.DEFINE_bool("invert_mask", False, "complete: white (or opaque) = to be completed.")
_OUTPUT = flags.DEFINE_string("output", None, "complete: folder for the completed pictures.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 4, "complete: answers per picture.")
_SEED = flags.DEFINE_integer("seed", 0, "complete: of the latent samples.")
_SIZE = flags.DEFINE_enum(
    "size",
    "own",
    ["own", "trained"],
    "complete: at the picture's own size, or resized to the trained size and pasted back.",
)
_COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache", "", "Folder of your own for compiled programs: a second start compiles nothing."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "host:port of process 0; TPU pods, GKE, Slurm and Open MPI need none of these three."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "Processes of the run, with --coordinator.")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Number of this one from 0, with --coordinator.")


def main(argv):
    """Runs the chosen mode; a UserError becomes one sentence and exit status 1."""
    try:
        if len(argv) > 1:
            raise UserError(f"{argv[1]!r} is no flag; write --name=value.")
        if not _WORKDIR.value:
            raise UserError("--workdir is missing; name the folder of the run.")
        if pathlib.Path(_WORKDIR.value).is_file():
            raise UserError(f"--workdir={_WORKDIR.value} is a file; name a folder.")
        _start_jax()
        {"train": _train, "evaluate": _evaluate, "complete": _complete}[_MODE.value]()
    except UserError as error:
        _exit_with(error)


def _start_jax():
    from ifanp_jax import compilation_cache, sharding

    if _COMPILATION_CACHE.value:
        compilation_cache.enable(_COMPILATION_CACHE.value)
    sharding.initialize(
        coordinator=_COORDINATOR.value, num_processes=_NUM_PROCESSES.value, process_id=_PROCESS_ID.value
    )
    if not sharding.is_first_process():
        logger.setLevel(logging.WARNING)  # one process tells of all


def _train():
    from ifanp_jax import configuration, runs, train
    from ifanp_jax.data import sources

    config = _CONFIG.value
    if config is None:
        raise UserError("--config is missing; give a file such as configs/digits_ifanp.py.")
    configuration.check(config)
    runs.check_same_model(_WORKDIR.value, config, None)
    runs.make_model(config, (8, 8, 1))  # an unknown model or field ends here, before the data is read
    dataset = _load_data(sources, config)
    state = train.run(config, _WORKDIR.value, dataset)
    model, _, _ = runs.make_model(config, dataset.train.shape[1:])
    _report(config, model, state, dataset)


def _evaluate():
    from ifanp_jax import configuration, runs
    from ifanp_jax.data import sources

    run = runs.load(_WORKDIR.value)
    config = run.config if _CONFIG.value is None else _CONFIG.value
    configuration.check(config)
    runs.check_same_model(_WORKDIR.value, config, None)
    dataset = _load_data(sources, config)
    runs.check_same_model(_WORKDIR.value, config, dataset.train.shape[1:])
    _report(config, run.model, run.state, dataset)


def _load_data(sources, config):
    dataset = sources.get(config.data)
    for name in dataset.skipped[:20]:
        logger.warning("Skipped %s", name)
    if dataset.skipped:
        logger.warning("Skipped %d files of %s in all.", len(dataset.skipped), dataset.name)
    return dataset


def _report(config, model, state, dataset):
    from ifanp_jax import evaluate, report, sharding

    evaluation = evaluate.run(config, model, state, dataset)
    if not sharding.is_first_process():  # the others also evaluate, so that none waits for long
        return
    evaluate.write(evaluation, _WORKDIR.value)
    report.draw(config, model, state, dataset, _WORKDIR.value)
    evaluate.print_table(evaluation)
    logger.info("Wrote the tables and figures to %s.", _WORKDIR.value)


def _complete():
    import ifanp_jax
    from ifanp_jax import complete

    for flag in (_INPUT, _OUTPUT):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing; --mode=complete needs --input and --output.")
    failures = complete.complete_files(
        ifanp_jax.load(_WORKDIR.value),
        input=_INPUT.value,
        mask=_MASK.value,
        output=_OUTPUT.value,
        num_samples=_NUM_SAMPLES.value,
        seed=_SEED.value,
        size=_SIZE.value,
        invert_mask=_INVERT_MASK.value,
    )
    if failures:
        sys.exit(1)


def _exit_with(error):
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)


def _parse_flags(argv):
    """Parses as absl does, with one sentence where a configuration or a flag is wrong."""
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _CONFIG.value.get("model")  # a file that failed to load says so only when it is used
        return rest
    except Exception as error:  # a configuration file is Python and may raise anything
        _exit_with(_explain(error, argv))


def _explain(error: Exception, argv: list[str]) -> str:
    """One sentence for what absl and ml_collections raise on a wrong flag."""
    files = re.findall(r"--config[= ](\S+)", " ".join(argv))
    if files and not pathlib.Path(files[-1].split(":")[0]).is_file():
        return f"--config={files[-1]} is no file; give a file such as configs/digits_ifanp.py."
    message = " ".join(str(error).split()) or type(error).__name__
    wrong_value = re.match(
        r"flag --(\S+?)=(.*): invalid literal for (\w+)|flag --(\S+?)=(.*): could not convert", message
    )
    if wrong_value:
        name, value = (
            wrong_value.group(1) or wrong_value.group(4),
            wrong_value.group(2) or wrong_value.group(5),
        )
        return f"--{name} is {value!r}; it must be a {'whole number' if wrong_value.group(3) else 'number'}."
    if isinstance(error, AttributeError | KeyError):
        given = [argument.split("=")[0].lstrip("-") for argument in argv if argument.startswith("--config.")]
        unknown = [name for name in given if message.strip("\"'") in name.split(".")]
        if unknown:
            return f"{unknown[0]} is no field of the configuration; configs/default.py lists them all."
        return f"the configuration {' '.join(files)} cannot be used: {message}."
    return message if message.endswith(".") else f"{message}."


def run():
    """Entry point: quiet logs of libraries, flags parsed with one-sentence errors."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Configuration files say `from configs import default`; that must work from any folder.
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax writes forty lines per checkpoint
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    app.run(main, flags_parser=_parse_flags)


if __name__ == "__main__":
    run()
