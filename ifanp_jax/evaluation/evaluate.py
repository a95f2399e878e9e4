"""The test protocol: fixed contexts, the same for every model, and what a model answers to them.

Latent samples are drawn from q(z | context) alone. The prediction is the mean over `num_samples` samples,
clipped to [0, 1]. `log_prob` is the importance-weighted bound with the same samples, in nats per value.
Where `config.evaluate.rounds` asks for it, samples by rounds are measured beside it (`by_rounds`).
"""

import functools
import logging
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax import metrics, objectives
from ifanp_jax.data import sampling
from ifanp_jax.data.dataset import Dataset, describe_images
from ifanp_jax.evaluation import baselines, batches, by_rounds, hole_values, holes, image_values
from ifanp_jax.evaluation.cells import draw_contexts, list_cells, value_name
from ifanp_jax.inference.model import Model
from ifanp_jax.metrics import calibration
from ifanp_jax.models import heads

logger = logging.getLogger(__name__)


def evaluate(
    model: Model, dataset: Dataset, *, folder: str | pathlib.Path | None = None
) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """Evaluates a model and the classical methods on the same contexts, and over the same holes.

    Args:
      model: trained; its configuration says which contexts, and whether there are holes.
      dataset: the held-out part is evaluated; the classical Gaussian process takes its length scale from
        training images.
      folder: where the holes are kept, see `holes.keep`; None = they are drawn anew.

    Returns:
      What `evaluation.json` holds, and what `evaluation.npz` holds: the values per image. Metrics that the
      model has no answer for are left out of both.
    """
    config = model.config
    images = dataset.evaluation[: config.evaluate.num_images or None]
    logger.info("Evaluating %s on %d held-out images of %s.", config.model.name, len(images), dataset.name)
    cells, values_per_image = [], {}
    for kind, fraction in list_cells(config.evaluate):
        context = draw_contexts(config.evaluate.seed, kind, fraction, images.shape[:3])
        values = evaluate_images(model, images, context)
        if config.evaluate.rounds and "log_prob" in values:
            values |= by_rounds.evaluate_samples(model, images, context)
        summary = image_values.summarise(values, seed=config.evaluate.seed)
        cells.append({"mask": kind, "fraction": fraction, **summary})
        values_per_image |= {value_name(kind, fraction, name): value for name, value in values.items()}
    of_holes = {}
    if masks := holes.keep(config, dataset, folder):
        of_holes["holes"], more = hole_values.evaluate(model, dataset, masks)
        values_per_image |= more
    return of_holes | {
        "model": config.model.name,
        "protocol": config.protocol,
        "data": dataset.name,
        "image_shape": list(images.shape[1:]),
        "training_images": describe_images(dataset.train),
        "held_out_images": describe_images(images),
        "step": model.step,
        "seed": config.seed,
        "num_parameters": model.num_parameters,
        "likelihood": config.model.get("likelihood"),
        "sigma": config.model.get("sigma"),
        "sigma_floor": config.model.get("sigma_floor"),
        "num_samples": config.evaluate.num_samples,
        "target": config.objective.target,
        "rounds": by_rounds.describe(config.evaluate),
        "coverage_levels": list(calibration.LEVELS),
        "cells": cells,
        "classical": baselines.evaluate_classical(config.evaluate, dataset),
    }, values_per_image


def evaluate_images(model: Model, images: np.ndarray, contexts: np.ndarray) -> dict[str, np.ndarray]:
    """Evaluates images in batches of `config.evaluate.batch_size`, which changes no number.

    Args:
      model: trained; its configuration says how it is evaluated.
      images: uint8 (N, H, W, C).
      contexts: bool (N, H, W, 1), True = observed.

    Returns:
      What `evaluate_batch` answers, one row per image.
    """
    config = model.config
    key = jax.random.fold_in(jax.random.key(config.evaluate.seed), 1)
    options = {"num_samples": config.evaluate.num_samples, "target": config.objective.target}
    measure = functools.partial(evaluate_batch, key, model.module, **options)
    return batches.measure(measure, model.variables, images, contexts, batch_size=config.evaluate.batch_size)


@functools.partial(jax.jit, static_argnames=("model", "num_samples", "target"))
def evaluate_batch(key, model, variables, images, mask, *, num_samples, target) -> dict[str, jax.Array]:
    """Evaluates a batch; compiled once per model, shape and options.

    Args:
      key: PRNG key of the latent samples.
      model: Flax module.
      variables: its parameters and other collections.
      images: uint8 (B, H, W, C).
      mask: bool (B, H, W, 1), True = observed.
      num_samples: latent samples per image.
      target: "all" or "unobserved" pixels in `log_prob`.

    Returns:
      float32 (B,) each: `psnr`, `psnr_completed`, `psnr_unobserved`, `mse`; `ssim` of the completed image,
      where both sides are at least 11. Of a model with a likelihood `reconstruction`, as in `Terms`. Of one
      with a latent variable `kl`, and `kl_per_dim` (B, Z). Of one with a scale `log_prob` (per value),
      `log_prob_per_image`, `crps` over the unobserved pixels, and their `coverage` (B, L) at
      `calibration.LEVELS`.
    """
    image, rngs = sampling.to_float(images), {"sample": key}
    terms = model.apply(variables, image, mask, train=False, target=target, rngs=rngs)
    num_samples = 1 if terms.kl is None else num_samples  # without a latent variable all are equal
    completion = model.apply(variables, image, mask, num_samples=num_samples, method="complete", rngs=rngs)
    prediction = jnp.clip(completion.samples.mean(axis=0), 0, 1)
    values = image_values.measure(prediction, image, mask)
    if terms.reconstruction is not None:
        values["reconstruction"] = terms.reconstruction
    if terms.kl is not None:
        values["kl"] = terms.kl
    if terms.kl_per_dim is not None:
        values["kl_per_dim"] = terms.kl_per_dim
    if completion.scale is not None:
        values |= _measure_distribution(completion, image, mask, target)
    if min(image.shape[1:3]) >= metrics.SSIM_WINDOW:
        values["ssim"] = metrics.ssim(metrics.keep_observed(prediction, image, mask), image)
    return values


def _measure_distribution(completion, image, mask, target):
    """What the scale of a completion is judged by: log-likelihood, coverage and CRPS."""
    samples, scale = completion.samples, completion.scale
    targets = objectives.target_pixels(mask, target)
    log_prob = objectives.importance_weighted_bound(heads.completion_log_prob(image, completion, targets))
    num_values = jnp.maximum(targets.sum(axis=(1, 2, 3)), 1) * image.shape[-1]
    kind = {"distribution": completion.distribution}
    probabilities = calibration.probability_integral_transform(samples, scale, image, **kind)
    return {
        "log_prob": log_prob / num_values,
        "log_prob_per_image": log_prob,
        "coverage": calibration.coverage(probabilities, ~mask, calibration.LEVELS),
        "crps": calibration.crps(samples, scale, image, ~mask, **kind),
    }
