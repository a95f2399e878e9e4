"""The files that an evaluation leaves in a working directory."""

import json
import logging
import pathlib

import numpy as np

from ifanp_jax import files
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import evaluate, figures, hole_tables, holes, panels, tables, validation
from ifanp_jax.evaluation.cells import draw_contexts
from ifanp_jax.inference.model import Model
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import metrics_file, steps

logger = logging.getLogger(__name__)


def make(model: Model, dataset: Dataset, workdir: str | pathlib.Path) -> dict | None:
    """Evaluates a model, writes tables and figures, and prints the table.

    Args:
      model: trained; its configuration says how it is evaluated.
      dataset: its held-out images.
      workdir: that exists.

    Returns:
      What `evaluation.json` holds; None in another process than the first, which only evaluates.
    """
    evaluation, values = evaluate.evaluate(model, dataset, folder=workdir)
    if not device_mesh.is_first_process():  # it also evaluates, so that none waits for long
        return None
    write(evaluation, values, workdir)
    logger.info("Drawing the figures.")
    draw(model, dataset, evaluation, workdir)
    tables.print_table(evaluation)
    hole_tables.print_table(evaluation)
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
    lines, of_holes = tables.list_lines(evaluation), hole_tables.list_lines(evaluation)
    text = "\n".join([*lines, "", *of_holes] if of_holes else lines)
    files.write_whole(workdir / "evaluation.md", text + "\n")
    files.write_whole(workdir / "evaluation.json", json.dumps(evaluation, indent=2) + "\n")


def draw(model: Model, dataset: Dataset, evaluation: dict, workdir: str | pathlib.Path) -> None:
    """Writes `completions.png`, `training.png` and `reliability.png`.

    Completions are those of random contexts and the upper half, or of holes. `reliability.png` is left out
    for a model without a scale, and `training.png` where there are no metrics.

    Args:
      model: trained; its configuration says how it is evaluated.
      dataset: the first held-out images are drawn.
      evaluation: from `evaluate.evaluate`.
      workdir: holds `metrics.jsonl`, where the model was trained in it.
    """
    workdir = pathlib.Path(workdir)
    images = np.asarray(dataset.evaluation[: model.config.evaluate.figure_images], np.float32) / 255
    if len(images):
        masks = {
            kind: mask[: len(images)] for kind, mask in holes.keep(model.config, dataset, workdir).items()
        }
        shown = panels.list_panels(model, images, masks or draw_panel_contexts(model, images))
        title = f"{model.config.model.name} on {dataset.name}, step {model.step}"
        if shown[0].num_rounds:
            title += f"; samples by {shown[0].num_rounds} rounds"
        figures.draw_completions(workdir / "completions.png", shown, title=title)
    if rows := metrics_file.read_metrics(workdir):
        unit, caption = (
            steps.get(model.config, model.module).loss_unit,
            validation.describe(model.config, dataset),
        )
        figures.draw_training(workdir / "training.png", rows, loss_unit=unit, caption=caption)
    coverage = {tables.label(cell): cell["coverage"] for cell in evaluation["cells"] if "coverage" in cell}
    if coverage:
        figures.draw_reliability(workdir / "reliability.png", evaluation["coverage_levels"], coverage)


def draw_panel_contexts(model: Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Random contexts and the upper half, bool (B, H, W, 1) by the name of their panel.

    Args:
      model: its configuration says which.
      images: float32 (B, H, W, C).
    """
    config = model.config.evaluate
    return {
        f"{kind} {fraction:.0%} observed": draw_contexts(config.seed, kind, fraction, images.shape[:3])
        for kind, fraction in [*(("random", fraction) for fraction in config.fractions), ("top", 0.5)]
    }
