"""The files that an evaluation leaves in a working directory."""

import json
import logging
import pathlib

import jax
import numpy as np

from ifanp_jax import files
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import evaluate, figures, tables, validation
from ifanp_jax.evaluation.cells import draw_contexts
from ifanp_jax.models import answers
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import Run, metrics_file

logger = logging.getLogger(__name__)


def make(run: Run, dataset: Dataset, workdir: str | pathlib.Path) -> dict | None:
    """Evaluates a run, writes tables and figures, and prints the table.

    Args:
      run: with its state.
      dataset: its held-out images.
      workdir: that exists.

    Returns:
      What `evaluation.json` holds; None in another process than the first, which only evaluates.
    """
    evaluation, values = evaluate.evaluate(run, dataset)
    if not device_mesh.is_first_process():  # it also evaluates, so that none waits for long
        return None
    write(evaluation, values, workdir)
    logger.info("Drawing the figures.")
    draw(run, dataset, evaluation, workdir)
    tables.print_table(evaluation)
    logger.info("Wrote the tables and figures to %s.", workdir)
    return evaluation


def write(evaluation: dict, values: dict[str, np.ndarray], workdir: str | pathlib.Path) -> None:
    """Writes `evaluation.md`, `evaluation.npz` (the values per image) and, last, `evaluation.json`.

    Args:
      evaluation: from `evaluate.evaluate`.
      values: from `evaluate.evaluate`.
      workdir: that exists.
    """
    workdir = pathlib.Path(workdir)
    with files.replacing(workdir / "evaluation.npz") as unfinished:
        np.savez(unfinished, **values)
    files.write_whole(workdir / "evaluation.md", "\n".join(tables.list_lines(evaluation)) + "\n")
    files.write_whole(workdir / "evaluation.json", json.dumps(evaluation, indent=2) + "\n")


def draw(run: Run, dataset: Dataset, evaluation: dict, workdir: str | pathlib.Path) -> None:
    """Writes `completions.png` (random contexts and the upper half), `training.png` and `reliability.png`.

    The last one is left out for a model without a scale, and `training.png` where there are no metrics.

    Args:
      run: with its state.
      dataset: the first held-out images are drawn.
      evaluation: from `evaluate.evaluate`.
      workdir: holds `metrics.jsonl`, where the model was trained in it.
    """
    workdir = pathlib.Path(workdir)
    images = np.asarray(dataset.evaluation[: run.config.evaluate.figure_images], np.float32) / 255
    if len(images):
        title = f"{run.config.model.name} on {dataset.name}, step {run.num_steps_done}"
        figures.draw_completions(workdir / "completions.png", complete_panels(run, images), title=title)
    if rows := metrics_file.read_metrics(workdir):
        unit, caption = run.step.loss_unit, validation.describe(dataset)
        figures.draw_training(workdir / "training.png", rows, loss_unit=unit, caption=caption)
    coverage = {tables.label(cell): cell["coverage"] for cell in evaluation["cells"] if "coverage" in cell}
    if coverage:
        figures.draw_reliability(workdir / "reliability.png", evaluation["coverage_levels"], coverage)


def complete_panels(run: Run, images: np.ndarray) -> list[figures.Panel]:
    """Completes test images from random contexts and from the upper half.

    Args:
      run: with its state.
      images: float32 (B, H, W, C) in [0, 1].
    """
    config = run.config.evaluate
    variables, panels = run.variables, []
    for kind, fraction in [*(("random", fraction) for fraction in config.fractions), ("top", 0.5)]:
        mask = draw_contexts(config.seed, kind, fraction, images.shape[:3])
        completion = answers.complete_batch(
            jax.random.key(config.seed),
            run.model,
            variables,
            images,
            mask,
            num_samples=max(config.num_samples, figures.NUM_SAMPLES_SHOWN),
        )
        samples, scale = jax.device_get((completion.samples, completion.scale))
        panels.append(
            figures.Panel(
                name=f"{kind} {fraction:.0%} observed",
                image=images,
                mask=mask,
                samples=samples,
                deviation=answers.predictive_deviation(samples, scale),
            )
        )
    return panels
