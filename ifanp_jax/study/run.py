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
from ifanp_jax.evaluation import evaluate, holes, report, validation
from ifanp_jax.study import (
    equal_time,
    figures,
    inpainting_figures,
    inpainting_summary,
    inpainting_tables,
    summary,
    tables,
)
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
      UserError: when a model's name is wrong, or a folder holds a run of another configuration or of other
        images.
    """
    workdir = pathlib.Path(workdir)
    if jax.process_count() > 1:
        raise UserError("A study runs in one process, on all of its devices; start it on one machine alone.")
    configuration.check(config)
    for name in config.study.models:
        one = config_of(config, name, 0)
        configuration.check(one)
        runs.make(one, runs.trained_shape(one, dataset))
    masks = holes.keep(config, dataset, workdir)  # one set for all runs
    for seed in config.study.seeds:
        for name in config.study.models:
            one = config_of(config, name, seed)
            one.train.num_steps = equal_time.num_steps_of(config, workdir, name) or equal_time.count_steps(
                one, dataset, minutes=config.study.minutes
            )
            _finish(one, run_dir(workdir, name, seed), dataset, train_run, masks)
    if masks:
        study = inpainting_summary.summarise(config, workdir, dataset, masks)
        inpainting_tables.write(study, workdir)
        inpainting_figures.draw(config, workdir, dataset, masks)
    else:
        study = summary.summarise(config, workdir, dataset)
        tables.write(study, workdir)
        figures.draw(config, workdir, dataset)
    return study


def terminal_lines(study: dict) -> list[str]:
    """The tables of `study.md` in lines of 80 characters.

    Args:
      study: from `run`.
    """
    return (inpainting_tables if "holes" in study else tables).terminal_lines(study)


def _finish(config, directory, dataset, train_run, masks):
    """Trains and evaluates one model where that is not done yet."""
    runs.check_same_run(directory, config, runs.trained_shape(config, dataset), allowed_changes=None)
    if (directory / "evaluation.json").is_file():  # written last
        _check_same_images(directory, config, dataset)
        if masks:
            found = summary.read_evaluation(directory).get("holes", {"rows": []})["rows"]
            _check_same_holes(directory, {row["hole"]: row["sha256"] for row in found}, masks)
        logger.info("%s is finished.", directory.name)
        return
    trained = train_run(config, directory, dataset, validate=validation.make_validation(config, dataset))
    kept = holes.keep(config, dataset, directory, given=masks)
    _check_same_holes(directory, holes.describe(kept), masks)
    evaluation, values = evaluate.evaluate(trained.model, dataset, folder=directory)
    report.draw(trained.model, dataset, evaluation, directory)
    report.write(evaluation, values, directory)


def _check_same_images(directory, config, dataset):
    """A finished run of other images would stand in one table with those of today."""
    evaluation = summary.read_evaluation(directory)
    held_out = dataset.evaluation[: config.evaluate.num_images or None]
    for part, images in (("training", dataset.train), ("held-out", held_out)):
        old = evaluation[f"{part.replace('-', '_')}_images"]
        runs.check_same_images(directory, old, describe_images(images), part=part, allowed_changes=None)


def _check_same_holes(directory, hashes, masks):
    """Methods that met other holes cannot stand in one table."""
    expected = holes.describe(masks)
    if any(hashes.get(kind) != name for kind, name in expected.items()):
        raise UserError(
            f"{directory} was tested over other holes than those of this study; remove its {holes.FILE_NAME} "
            "and its evaluation.json, and the same command evaluates the run again."
        )
