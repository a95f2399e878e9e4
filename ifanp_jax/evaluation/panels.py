"""What the figures show of a model: completions of held-out images, and samples as they are evaluated."""

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.evaluation import figures
from ifanp_jax.inference import autoregressive, predict
from ifanp_jax.inference.model import Model
from ifanp_jax.models.outputs import Completion


def complete(model: Model, images: np.ndarray, mask: np.ndarray) -> Completion:
    """Completes images as often as the evaluation does, and as a figure shows at least.

    Args:
      model: trained; its configuration says how it is evaluated.
      images: float32 (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.

    Returns:
      float32 samples (S, B, H, W, C) and, where the model has one, their scale; NumPy.
    """
    key, config = jax.random.key(model.config.evaluate.seed), model.config.evaluate
    num_samples = max(config.num_samples, figures.NUM_SAMPLES_SHOWN)
    completion = predict.complete_batch(
        key, model.module, model.variables, images, mask, num_samples=num_samples
    )
    return jax.device_get(completion)


def count_rounds(model: Model, completion: Completion) -> int:
    """Rounds by which the evaluation draws samples, 0 = they are those of `complete`: a model needs a scale.

    Args:
      model: with its configuration.
      completion: of `complete`.
    """
    return 0 if completion.scale is None else model.config.evaluate.rounds


def draw_samples(model: Model, images: np.ndarray, mask: np.ndarray, completion: Completion) -> np.ndarray:
    """Samples by rounds where they are evaluated, else those of `complete`.

    Args:
      model: trained; its configuration says how it is evaluated.
      images: float32 (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.
      completion: of `complete`.

    Returns:
      float32 (S, B, H, W, C), S at least as many as a figure shows.
    """
    num_rounds = count_rounds(model, completion)
    if not num_rounds:
        return completion.samples
    drawn = autoregressive.complete_by_rounds(
        jax.random.key(model.config.evaluate.seed),
        model.module,
        model.variables,
        jnp.asarray(images),
        jnp.asarray(mask),
        num_samples=figures.NUM_SAMPLES_SHOWN,
        rounds=num_rounds,
    )
    return np.asarray(drawn)


def list_panels(model: Model, images: np.ndarray, masks: dict[str, np.ndarray]) -> list[figures.Panel]:
    """The panels of `completions.png`, one for each kind of context.

    Args:
      model: trained; its configuration says how it is evaluated.
      images: float32 (B, H, W, C) in [0, 1].
      masks: bool (B, H, W, 1), True = observed, by the name of their panel.
    """
    panels = []
    for name, mask in masks.items():
        completion = complete(model, images, mask)
        panels.append(
            figures.Panel(
                name=name,
                image=images,
                mask=mask,
                samples=draw_samples(model, images, mask, completion),
                mean=completion.samples.mean(axis=0),
                deviation=_measure_deviation(completion),
                num_rounds=count_rounds(model, completion),
            )
        )
    return panels


def _measure_deviation(completion):
    """The standard deviation of the prediction; None where a model without a scale has one answer."""
    samples, scale = completion.samples, completion.scale
    if scale is None and np.ptp(samples, axis=0).max() == 0:
        return None
    return predict.predictive_deviation(samples, scale)
