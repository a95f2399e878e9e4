"""What the modes of the command line do; `given` are the flags of `main.py`."""

import json
import logging
import os
import pathlib
import shlex
import sys
from typing import TYPE_CHECKING

from absl import flags

from ifanp_jax import command_line, errors
from ifanp_jax.errors import UserError
from ifanp_jax.inference.options import CompletionOptions
from ifanp_jax.runtime import extras

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from ifanp_jax.data.dataset import Dataset

logger = logging.getLogger("ifanp_jax")


def check(given: flags.FlagValues) -> None:
    """Refuses a command that names no run or more than one model; --workdir becomes a path.

    Raises:
      UserError: that says what to give.
    """
    if is_classical(given):
        return
    takes_model = given.mode in ("complete", "export", "serve", "evaluate")
    if given.workdir and given.model:
        raise UserError("--workdir and --model are both given; name the trained model by one of them.")
    if given.model and not takes_model:
        raise UserError(f"--model names a trained model; --mode={given.mode} needs --workdir.")
    if given.model:
        return
    if not given.workdir:
        other = ", or a shipped model by --model" if takes_model else ""
        raise UserError(f"--workdir is missing; name the folder of the run{other}.")
    if "://" in given.workdir:
        raise UserError(
            f"--workdir={given.workdir} is no folder; name one, or mount the bucket (gcsfuse) and name that."
        )
    given.workdir = os.path.expanduser(given.workdir)  # no shell does it behind an equals sign
    if pathlib.Path(given.workdir).is_file():
        raise UserError(f"--workdir={given.workdir} is a file; name a folder.")


def is_classical(given: flags.FlagValues) -> bool:
    """Whether pictures are completed without a trained model, and so without JAX."""
    return given.mode == "complete" and bool(given.method) and not given.compare


def train(given: flags.FlagValues) -> None:
    """Trains, then evaluates and draws."""
    extras.require("train", "a training")
    from ifanp_jax import training
    from ifanp_jax.evaluation import validation
    from ifanp_jax.training import runs

    config = command_line.get_config()
    if config is None:
        raise UserError("--config is missing; give a file or a shipped name such as digits_ifanp.")
    _prepare(config)
    runs.check_same_model(given.workdir, config, None)
    runs.make(config, (8, 8, 1))  # an unknown model, step or field ends here, before the data is read
    dataset = load_data(config)
    validate = _evaluation_memory()(validation.make_validation(config, dataset))
    with errors.full_device("lower config.train.batch_size, or take a smaller model or images"):
        run = training.run(
            config,
            given.workdir,
            dataset,
            allowed_changes=given.allow_config_change,
            validate=validate,
        )
    _report(run.model, dataset, given.workdir, config)


def evaluate(given: flags.FlagValues) -> None:
    """Evaluates and draws a run, or a shipped model."""
    extras.require("train", "an evaluation")
    from ifanp_jax.training import runs

    if given.model:
        _evaluate_shipped(given)
        return
    model = runs.load(given.workdir).model
    config = command_line.get_config() or model.config
    _prepare(config, trained=model.config)
    runs.check_same_model(given.workdir, config, None)
    dataset = load_data(config)
    runs.check_same_model(given.workdir, config, runs.trained_shape(config, dataset))
    _report(model, dataset, given.workdir, config)


def _evaluate_shipped(given):
    config = command_line.get_config()
    if config is None or not given.output:
        raise UserError(
            f"--mode=evaluate --model={given.model} needs --config for the data, such as "
            "--config=mnist_multiscale, and --output for the tables."
        )
    own = [name for name in command_line.get_overrides() if name.startswith("model.")]
    if own:
        raise UserError(f"--config.{own[0]} changes no model that is trained already; leave it out.")
    model = _load_model(given)
    config.model = model.config.model
    logger.info("The model is %s; --config says the data and how it is evaluated.", given.model)
    _prepare(config, trained=model.config)
    dataset = load_data(config)
    model.check_takes(dataset.evaluation.shape[1:])
    pathlib.Path(given.output).expanduser().mkdir(parents=True, exist_ok=True)
    _report(model, dataset, pathlib.Path(given.output).expanduser(), config)


def study(given: flags.FlagValues) -> None:
    """Trains and compares many models."""
    extras.require("train", "a study")
    from ifanp_jax.study import run, tables

    config = command_line.get_config()
    if config is None or "study" not in config:
        raise UserError("--mode=study needs --config with a study, such as study_digits.")
    _prepare(config)
    dataset = load_data(config)
    with errors.full_device("lower config.train.batch_size and config.evaluate.batch_size"):
        study = run.run(config, given.workdir, dataset)
    print(tables.terminal_page(study))
    logger.info("Wrote study.md, study.json, study.csv and the figures to %s.", given.workdir)


def complete(given: flags.FlagValues) -> None:
    """Completes pictures by a trained model, by a classical method, or by both."""
    from ifanp_jax.completion import files, methods

    for name in ("input", "output"):
        if not given[name].value:
            raise UserError(f"--{name} is missing; --mode=complete needs --input and --output.")
    name = given.method or ("biharmonic" if given.compare else "")
    method = methods.ClassicalMethod(name) if name else None
    is_trained = given.compare or not method
    options = CompletionOptions(
        num_samples=given.num_samples,
        seed=given.seed,
        size=given.size,
        rounds=given.rounds,
        temperature=given.temperature,
        fill=given.fill,
        grain=given.grain,
        num_completed=given.num_completed,
    )
    with errors.full_device("give smaller pictures, --size=trained or a lower --num_samples"):
        failures = files.complete_files(
            _load_model(given) if is_trained else method,
            compared={name: method} if given.compare else {},
            input=given.input,
            mask=given.mask,
            output=given.output,
            options=options,
            invert_mask=given.invert_mask,
            mask_threshold=given.mask_threshold,
            extend=given.extend,
        )
    if failures:
        sys.exit(1)


def export(given: flags.FlagValues) -> None:
    """Writes a model for use without this package."""
    if not given.output:
        raise UserError("--output is missing; --mode=export needs it.")
    if given.format == "onnx":
        extras.require("onnx", "--format=onnx")
        from ifanp_jax.inference import onnx_file

        onnx_file.write(_load_model(given), given.output, dtype=given.dtype)
        logger.info("Wrote %s, whose answers ONNX Runtime gave as the model does.", given.output)
        return
    if given.dtype != "float32":
        raise UserError(
            f"--dtype={given.dtype} is of --format=onnx alone: leave it out, or ask for that format."
        )
    extras.require("export", "an export")
    from ifanp_jax.inference import export

    with errors.full_device("lower --num_samples"):
        export.write(_load_model(given), given.output, num_samples=given.num_samples)
    logger.info("Wrote the exported model to %s.", given.output)


def serve(given: flags.FlagValues) -> None:
    """Serves the page."""
    extras.require("web", "the page")
    from ifanp_jax.web import server
    from ifanp_jax.web.settings import Served

    model, flag = _load_model(given), given["model" if given.model else "workdir"]
    function = "from_pretrained" if given.model else "load"
    served = Served(
        model=model,
        name=given.model or model.config.model.name,
        flag=f"--{flag.name}={shlex.quote(flag.value)}",
        python=f"ifanp_jax.{function}({json.dumps(flag.value)})",
    )
    server.serve(served, host=given.host, port=given.port)


def _load_model(given):
    import ifanp_jax

    return ifanp_jax.from_pretrained(given.model) if given.model else ifanp_jax.load(given.workdir)


def _prepare(config, *, trained=None):
    from ifanp_jax import configuration

    configuration.prepare(config, given=command_line.get_overrides(), trained=trained)


def load_data(config: "ConfigDict") -> "Dataset":
    """Loads the images of a configuration, and says which files were left out."""
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
