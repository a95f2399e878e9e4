"""The command line: `ifanp-jax`, or `python -m ifanp_jax.main`.

ifanp-jax --config=digits_multiscale --workdir=runs/digits
ifanp-jax complete --model=photos --input=PICTURE --mask=MASK --output=DONE
ifanp-jax serve --model=photos
"""

import json
import logging
import os
import pathlib
import shlex
import sys

from absl import flags

from ifanp_jax import command_line, errors
from ifanp_jax.errors import UserError
from ifanp_jax.inference.options import SIZES, CompletionOptions
from ifanp_jax.runtime import extras

logger = logging.getLogger("ifanp_jax")

flags.adopt_module_key_flags(command_line)  # --help lists them too
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, tables, figures.")
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "complete", "export", "study", "serve"],
    "train (then evaluate and draw), evaluate (and draw) a run, complete your own pictures with it, export "
    "it for use without this package, study: train and compare the models that a configuration lists, or "
    "serve: a page in the browser that completes pictures. The first word may stand for it: ifanp-jax serve.",
)
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "complete, export, serve, evaluate: a shipped model, such as photos, in place of --workdir; evaluate "
    "then needs --config for the data, and --output for the tables.",
)
_INPUT = flags.DEFINE_string("input", None, "complete: a picture or a folder of pictures.")
_MASK = flags.DEFINE_string(
    "mask",
    "",
    "complete: mask picture or folder of them, white = observed; else the alpha channel, opaque = observed.",
)
_INVERT_MASK = flags.DEFINE_bool("invert_mask", False, "complete: white (or opaque) = to be completed.")
_OUTPUT = flags.DEFINE_string("output", None, "complete: folder for the pictures. export: a new folder.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 4, "complete, export: answers per picture.")
_SEED = flags.DEFINE_integer("seed", CompletionOptions.seed, "complete: of the latent samples.")
_SIZE = flags.DEFINE_enum(
    "size",
    CompletionOptions.size,
    SIZES,
    "complete: at the picture's own size in one call, resized to the trained size and pasted back, or auto: "
    "in tiles, or what suits the model; the log says what, and why.",
)
_METHOD = flags.DEFINE_string(
    "method",
    "",
    "complete: without a trained model: biharmonic, telea, nearest, ...; an unknown one lists all.",
)
_COMPARE = flags.DEFINE_bool(
    "compare", False, "complete: by the trained model and, beside it, by --method, biharmonic by default."
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", None, "complete: of the samples, see docs/export.md; by default what suits the model, 16 or 1."
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", CompletionOptions.temperature, "complete: factor of the noise, with several rounds."
)
_ALLOW_CONFIG_CHANGE = flags.DEFINE_list(
    "allow_config_change", [], "train: fields in which a run that goes on may differ, as train.num_steps."
)
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "serve: address to listen on; any other one lets other machines in."
)
_PORT = flags.DEFINE_integer("port", 8000, "serve: 0 = any free one.", lower_bound=0, upper_bound=65535)


def main():
    """Runs the chosen mode."""
    if _MODE.value == "complete" and _METHOD.value and not _COMPARE.value:
        _complete()
        return
    _check_source()
    if _MODEL.value:
        command_line.start_jax()
        MODES[_MODE.value]()
        return
    if "://" in _WORKDIR.value:
        raise UserError(
            f"--workdir={_WORKDIR.value} is no folder; name one, or mount the bucket (gcsfuse) and name that."
        )
    flags.FLAGS.workdir = os.path.expanduser(_WORKDIR.value)  # no shell does it behind an equals sign
    if pathlib.Path(_WORKDIR.value).is_file():
        raise UserError(f"--workdir={_WORKDIR.value} is a file; name a folder.")
    command_line.start_jax()
    MODES[_MODE.value]()


def _check_source():
    """Refuses a command that names no run, or more than one model."""
    takes_model = _MODE.value in ("complete", "export", "serve", "evaluate")
    if _WORKDIR.value and _MODEL.value:
        raise UserError("--workdir and --model are both given; name the trained model by one of them.")
    if _MODEL.value and not takes_model:
        raise UserError(f"--model names a trained model; --mode={_MODE.value} needs --workdir.")
    if not _WORKDIR.value and not _MODEL.value:
        other = ", or a shipped model by --model" if takes_model else ""
        raise UserError(f"--workdir is missing; name the folder of the run{other}.")


def _train():
    extras.require("train", "a training")
    from ifanp_jax import training
    from ifanp_jax.evaluation import validation
    from ifanp_jax.training import runs

    config = command_line.get_config()
    if config is None:
        raise UserError("--config is missing; give a file or a shipped name such as digits_ifanp.")
    _prepare(config)
    runs.check_same_model(_WORKDIR.value, config, None)
    runs.make(config, (8, 8, 1))  # an unknown model, step or field ends here, before the data is read
    dataset = _load_data(config)
    validate = _evaluation_memory()(validation.make_validation(config, dataset))
    with errors.full_device("lower config.train.batch_size, or take a smaller model or images"):
        run = training.run(
            config,
            _WORKDIR.value,
            dataset,
            allowed_changes=_ALLOW_CONFIG_CHANGE.value,
            validate=validate,
        )
    _report(run.model, dataset, _WORKDIR.value, config)


def _evaluate():
    extras.require("train", "an evaluation")
    from ifanp_jax.training import runs

    if _MODEL.value:
        _evaluate_shipped()
        return
    model = runs.load(_WORKDIR.value).model
    config = command_line.get_config() or model.config
    _prepare(config, trained=model.config)
    runs.check_same_model(_WORKDIR.value, config, None)
    dataset = _load_data(config)
    runs.check_same_model(_WORKDIR.value, config, runs.trained_shape(config, dataset))
    _report(model, dataset, _WORKDIR.value, config)


def _evaluate_shipped():
    config = command_line.get_config()
    if config is None or not _OUTPUT.value:
        raise UserError(
            f"--mode=evaluate --model={_MODEL.value} needs --config for the data, such as "
            "--config=mnist_multiscale, and --output for the tables."
        )
    model = _load_model()
    config.model = model.config.model
    logger.info("The model is %s; --config says the data and how it is evaluated.", _MODEL.value)
    _prepare(config, trained=model.config)
    dataset = _load_data(config)
    model.check_takes(dataset.evaluation.shape[1:])
    pathlib.Path(_OUTPUT.value).expanduser().mkdir(parents=True, exist_ok=True)
    _report(model, dataset, pathlib.Path(_OUTPUT.value).expanduser(), config)


def _study():
    extras.require("train", "a study")
    from ifanp_jax.study import run, tables

    config = command_line.get_config()
    if config is None or "study" not in config:
        raise UserError("--mode=study needs --config with a study, such as study_digits.")
    _prepare(config)
    dataset = _load_data(config)
    with errors.full_device("lower config.train.batch_size and config.evaluate.batch_size"):
        study = run.run(config, _WORKDIR.value, dataset)
    print(tables.terminal_page(study))
    logger.info("Wrote study.md, study.json, study.csv and the figures to %s.", _WORKDIR.value)


def _complete():
    from ifanp_jax.completion import files, methods

    for flag in (_INPUT, _OUTPUT):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing; --mode=complete needs --input and --output.")
    name = _METHOD.value or ("biharmonic" if _COMPARE.value else "")
    method = methods.ClassicalMethod(name) if name else None
    is_trained = _COMPARE.value or not method
    options = CompletionOptions(
        num_samples=_NUM_SAMPLES.value,
        seed=_SEED.value,
        size=_SIZE.value,
        rounds=_ROUNDS.value,
        temperature=_TEMPERATURE.value,
    )
    with errors.full_device("give smaller pictures, --size=trained or a lower --num_samples"):
        failures = files.complete_files(
            _load_model() if is_trained else method,
            compared={name: method} if _COMPARE.value else {},
            input=_INPUT.value,
            mask=_MASK.value,
            output=_OUTPUT.value,
            options=options,
            invert_mask=_INVERT_MASK.value,
        )
    if failures:
        sys.exit(1)


def _export():
    extras.require("export", "an export")
    from ifanp_jax.inference import export

    if not _OUTPUT.value:
        raise UserError("--output is missing; --mode=export needs it.")
    with errors.full_device("lower --num_samples"):
        export.write(_load_model(), _OUTPUT.value, num_samples=_NUM_SAMPLES.value)
    logger.info("Wrote the exported model to %s.", _OUTPUT.value)


def _serve():
    extras.require("web", "the page")
    from ifanp_jax.web import server
    from ifanp_jax.web.settings import Served

    model, flag = _load_model(), _MODEL if _MODEL.value else _WORKDIR
    function = "from_pretrained" if _MODEL.value else "load"
    served = Served(
        model=model,
        name=_MODEL.value or model.config.model.name,
        flag=f"--{flag.name}={shlex.quote(flag.value)}",
        python=f"ifanp_jax.{function}({json.dumps(flag.value)})",
    )
    server.serve(served, host=_HOST.value, port=_PORT.value)


def _load_model():
    import ifanp_jax

    return ifanp_jax.from_pretrained(_MODEL.value) if _MODEL.value else ifanp_jax.load(_WORKDIR.value)


MODES = {
    "train": _train,
    "evaluate": _evaluate,
    "complete": _complete,
    "export": _export,
    "study": _study,
    "serve": _serve,
}


def _prepare(config, *, trained=None):
    from ifanp_jax import configuration

    configuration.prepare(config, given=command_line.get_overrides(), trained=trained)


def _load_data(config):
    from ifanp_jax.data import sources

    dataset = sources.load(config.data)
    config.data.name = dataset.name  # a run says truly what it was trained on
    for name in dataset.skipped[:20]:
        logger.warning("Skipped %s", name)
    if dataset.skipped:
        count = len(dataset.skipped)
        logger.warning("Skipped %d %s of %s in all.", count, "file" if count == 1 else "files", dataset.name)
    return dataset


def _evaluation_memory():
    return errors.full_device("lower config.evaluate.batch_size or config.evaluate.num_samples")


def _report(model, dataset, folder, config):
    from ifanp_jax.evaluation import report
    from ifanp_jax.evaluation.options import Options

    with _evaluation_memory():
        report.make(model, dataset, folder, options=Options.of(config))


def run():
    """The command `ifanp-jax`, the same as `python -m ifanp_jax.main`."""
    command_line.run(main)


if __name__ == "__main__":
    run()
