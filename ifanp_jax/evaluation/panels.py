"""The figures of a model: completions of held-out images, its training, and its reliability."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import figures, tables, validation
from ifanp_jax.evaluation.contexts import Context, Contexts, list_holes, make_context
from ifanp_jax.evaluation.options import Options
from ifanp_jax.inference import autoregressive, predict
from ifanp_jax.inference.model import Model
from ifanp_jax.models.base import Completion
from ifanp_jax.training import metrics_file, steps


def draw(
    model: Model,
    dataset: Dataset,
    evaluation: dict,
    workdir: str | pathlib.Path,
    options: Options,
    *,
    contexts: Contexts,
) -> None:
    """Writes `completions.png`, `training.png` and `reliability.png`.

    Completions are those of holes, or without any of random contexts and the upper half. `reliability.png` is
    left out for a model without a scale, and `training.png` where there are no metrics.

    Args:
      model: trained.
      dataset: the first held-out images are drawn.
      evaluation: from `evaluate.evaluate`.
      workdir: holds `metrics.jsonl`, where the model was trained in it.
      options: of the evaluation.
      contexts: of the held-out images.
    """
    workdir = pathlib.Path(workdir)
    images = np.asarray(dataset.evaluation[: options.figure_images], np.float32) / 255
    if len(images):
        shown = list_panels(model, images, _choose_contexts(contexts, images, options), options)
        title = f"{model.config.model.name} on {dataset.name}, step {model.step}"
        if shown[0].num_rounds:
            title += f"; samples by {shown[0].num_rounds} rounds"
        figures.draw_completions(workdir / "completions.png", shown, title=title)
    if rows := metrics_file.read_metrics(workdir):
        unit = steps.get(model.config, model.module).loss_unit
        caption = validation.describe(options, dataset)
        figures.draw_training(workdir / "training.png", rows, loss_unit=unit, caption=caption)
    coverage = {tables.label(cell): cell["coverage"] for cell in evaluation["cells"] if "coverage" in cell}
    if coverage:
        figures.draw_reliability(workdir / "reliability.png", evaluation["coverage_levels"], coverage)


def _choose_contexts(contexts, images, options):
    """The contexts of the first images that are drawn."""
    if holes := list_holes(contexts.values()):
        return [context.first(len(images)) for context in holes]
    random = [context.first(len(images)) for context in contexts.values() if context.kind == "random"]
    return [*random, make_context("top", images.shape[:3], seed=options.seed)]


def list_panels(
    model: Model, images: np.ndarray, contexts: list[Context], options: Options
) -> list[figures.Panel]:
    """The panels of `completions.png`, one for each context.

    Args:
      model: trained.
      images: float32 (B, H, W, C) in [0, 1].
      contexts: of these images.
      options: of the evaluation.
    """
    panels = []
    for context in contexts:
        completion = complete(model, images, context.masks, options)
        panels.append(
            figures.Panel(
                name=f"{tables.label({'mask': context.kind, 'fraction': context.fraction})} observed",
                image=images,
                mask=context.masks,
                samples=draw_samples(model, images, context.masks, options, completion),
                mean=completion.samples.mean(axis=0),
                deviation=_measure_deviation(completion),
                num_rounds=_count_rounds(options, completion),
            )
        )
    return panels


def complete(model: Model, images: np.ndarray, masks: np.ndarray, options: Options) -> Completion:
    """Completes images as often as the evaluation does, and as a figure shows at least.

    Args:
      model: trained.
      images: float32 (B, H, W, C) in [0, 1].
      masks: bool (B, H, W, 1), True = observed.
      options: of the evaluation.

    Returns:
      float32 samples (S, B, H, W, C) and, where the model has one, their scale; NumPy.
    """
    num_samples = max(options.num_samples, figures.NUM_SAMPLES_SHOWN)
    key = jax.random.key(options.seed)
    completion = predict.complete_batch(
        key, model.module, model.variables, images, masks, num_samples=num_samples
    )
    return jax.device_get(completion)


def draw_samples(
    model: Model, images: np.ndarray, masks: np.ndarray, options: Options, completion: Completion
) -> np.ndarray:
    """Samples by rounds where they are evaluated, else those of `complete`.

    Args:
      model: trained.
      images: float32 (B, H, W, C) in [0, 1].
      masks: bool (B, H, W, 1), True = observed.
      options: of the evaluation.
      completion: of `complete`.

    Returns:
      float32 (S, B, H, W, C), S at least as many as a figure shows.
    """
    num_rounds = _count_rounds(options, completion)
    if not num_rounds:
        return completion.samples
    drawn = autoregressive.complete_by_rounds(
        jax.random.key(options.seed),
        model.module,
        model.variables,
        jnp.asarray(images),
        jnp.asarray(masks),
        num_samples=figures.NUM_SAMPLES_SHOWN,
        rounds=num_rounds,
    )
    return np.asarray(drawn)


def _count_rounds(options, completion):
    """Rounds by which samples are drawn; 0 = they are those of `complete`: rounds need a scale."""
    return 0 if completion.scale is None else options.rounds


def _measure_deviation(completion):
    """The standard deviation of the prediction; None where a model without a scale has one answer."""
    samples, scale = completion.samples, completion.scale
    if scale is None and np.ptp(samples, axis=0).max() == 0:
        return None
    return predict.predictive_deviation(samples, scale)
