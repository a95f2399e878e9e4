"""The figures of a run."""

import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.models import answers
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import evaluate, figures
from ifanp_jax.training import metrics_file, parameters


def draw(
    config: ConfigDict,
    model,
    train_state: parameters.TrainState,
    dataset: Dataset,
    evaluation: dict,
    workdir: str | pathlib.Path,
) -> None:
    """Writes `completions.png` (random contexts and the upper half), `training.png` and `reliability.png`.

    Args:
      config: the whole configuration.
      model: Flax module.
      train_state: its parameters.
      dataset: the first held-out images are drawn.
      evaluation: from `evaluate.run`.
      workdir: holds `metrics.jsonl`.
    """
    workdir = pathlib.Path(workdir)
    images = np.asarray(dataset.evaluation[: config.evaluate.figure_images], np.float32) / 255
    if len(images):
        kinds = [("random", fraction) for fraction in config.evaluate.fractions] + [("top", 0.5)]
        cells = [
            (
                f"{kind} {fraction:.0%} observed",
                evaluate.contexts(config.evaluate.seed, kind, fraction, images.shape[:3]),
            )
            for kind, fraction in kinds
        ]
        panels = make_panels(
            model,
            train_state.evaluation_params,
            images,
            cells,
            seed=config.evaluate.seed,
            num_samples=max(config.evaluate.num_samples, figures.NUM_SAMPLES_SHOWN),
        )
        title = f"{config.model.name} on {dataset.name}, step {int(train_state.step)}"
        figures.draw_completions(workdir / "completions.png", panels, title=title)
    figures.draw_training(workdir / "training.png", metrics_file.read_metrics(workdir))
    coverage = {evaluate.label(cell): cell["coverage"] for cell in evaluation["cells"]}
    figures.draw_reliability(workdir / "reliability.png", evaluation["coverage_levels"], coverage)


def make_panels(
    model, params, images: np.ndarray, cells: list[tuple], *, seed: int, num_samples: int
) -> list[tuple]:
    """Completes test images for `figures.draw_completions`.

    Args:
      model: Flax module.
      params: its parameters.
      images: float (B, H, W, C) in [0, 1].
      cells: (name, contexts (B, H, W, 1)) each.
      seed: of the latent samples.
      num_samples: S, at least `figures.NUM_SAMPLES_SHOWN`.
    """
    panels = []
    for name, mask in cells:
        samples, scale = jax.device_get(
            answers.complete_batch(jax.random.key(seed), model, params, images, mask, num_samples=num_samples)
        )
        uncertainty = answers.predictive_deviation(samples, scale)
        panels.append((name, images, mask, samples, uncertainty))
    return panels
