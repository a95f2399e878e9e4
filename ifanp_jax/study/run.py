"""Many models, one protocol: trains each, then writes one table and its figures.

Every model sees the same images, test contexts and seeds, and has the same number of steps, or of minutes
where `study.minutes` says so. Each (model, seed) is a run in a folder of its own, so a study that was killed
goes on where it was: finished runs are read, the next is resumed.
"""

import logging
import pathlib
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from ifanp_jax import configuration, training
from ifanp_jax.data.dataset import Dataset, describe_images
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import contexts as test_contexts
from ifanp_jax.evaluation import report, validation
from ifanp_jax.evaluation.options import Options
from ifanp_jax.study import equal_time, figures, summary, tables
from ifanp_jax.study.one_run import config_of, run_dir
from ifanp_jax.training import Run, runs

logger = logging.getLogger(__name__)


def run(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    dataset: Dataset,
    *,
    train_run: Callable[..., Run] = training.run,
) -> dict:
    """Trains and evaluates every model of `config.study`, then writes tables and figures.

    Args:
      config: whole, with `config.study`.
      workdir: of the study; every run has a folder in it.
      dataset: of all runs.
      train_run: trains one of them; called as `training.run` is.

    Returns:
      What `study.json` holds.

    Raises:
      UserError: when a model's name is wrong, or a folder holds a run of another configuration, of other
        images or of other contexts.
    """
    workdir = pathlib.Path(workdir)
    if jax.process_count() > 1:
        raise UserError("A study runs in one process, on all of its devices; start it on one machine alone.")
    configuration.check(config)
    for name in config.study.models:
        one = config_of(config, name, 0)
        configuration.check(one)
        runs.make(one, runs.trained_shape(one, dataset))
    options = Options.of(config)
    shape = dataset.evaluation[: options.num_images or None].shape[:3]
    contexts = test_contexts.load_contexts(options, shape, folder=workdir)  # one set for all runs
    test_contexts.keep_holes(contexts, workdir)
    for seed in config.study.seeds:
        for name in config.study.models:
            one = config_of(config, name, seed)
            one.train.num_steps = equal_time.num_steps_of(config, workdir, name) or equal_time.count_steps(
                one, dataset, minutes=config.study.minutes
            )
            _finish(one, run_dir(workdir, name, seed), dataset, train_run, contexts)
    study = summary.summarise(config, workdir, dataset, contexts)
    tables.write(study, workdir)
    figures.draw(config, workdir, dataset, contexts)
    return study


def _finish(config, directory, dataset, train_run, contexts):
    """Trains and evaluates one model where that is not done yet."""
    runs.check_same_run(directory, config, runs.trained_shape(config, dataset), allowed_changes=None)
    if (directory / "evaluation.json").is_file():  # written last
        evaluation = report.read(directory)
        _check_same_images(directory, evaluation, config, dataset)
        _check_same_contexts(directory, {cell.get("sha256") for cell in evaluation["cells"]}, contexts)
        logger.info("%s is finished.", directory.name)
        return
    if (directory / test_contexts.FILE_NAME).is_file():
        kept = test_contexts.read_holes(directory / test_contexts.FILE_NAME, _shape_of(contexts))
        holes = {context.name: context for context in test_contexts.list_holes(contexts.values())}
        _check_same_contexts(directory, {context.sha256 for context in kept}, holes)
    trained = train_run(config, directory, dataset, validate=validation.make_validation(config, dataset))
    report.make(
        trained.model, dataset, directory, options=Options.of(config), contexts=contexts, is_printed=False
    )


def _shape_of(contexts):
    return next(iter(contexts.values())).masks.shape[:3]


def _check_same_images(directory, evaluation, config, dataset):
    """A finished run of other images would stand in one table with those of today."""
    held_out = dataset.evaluation[: config.evaluate.num_images or None]
    for part, images in (("training", dataset.train), ("held-out", held_out)):
        old = evaluation[f"{part.replace('-', '_')}_images"]
        runs.check_same_images(directory, old, describe_images(images), part=part, allowed_changes=None)


def _check_same_contexts(directory, hashes, contexts):
    """Methods that met other contexts cannot stand in one table."""
    if not {context.sha256 for context in contexts.values()} <= hashes:
        raise UserError(
            f"{directory} was tested in other contexts than those of this study; remove its evaluation.json "
            f"and {test_contexts.FILE_NAME}, and the same command evaluates the run again."
        )
