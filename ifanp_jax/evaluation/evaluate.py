"""The test protocol: fixed contexts, the same for every model, and what a model answers to them.

Latent samples are drawn from q(z | context) alone. The prediction is the mean over `num_samples` samples,
clipped to [0, 1]. `log_prob` is the importance-weighted bound with the same samples, in nats per value.
Where `options.rounds` asks for it, samples by rounds are measured beside it (`by_rounds`).
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax import metrics, objectives
from ifanp_jax.classical import interpolation, opencv
from ifanp_jax.data import sampling
from ifanp_jax.data.dataset import Dataset, describe_images
from ifanp_jax.evaluation import baselines, batches, by_rounds, scores
from ifanp_jax.evaluation.contexts import Contexts, list_holes, load_contexts
from ifanp_jax.evaluation.options import Options
from ifanp_jax.inference import predict
from ifanp_jax.inference.model import Model
from ifanp_jax.metrics import calibration, inpainting
from ifanp_jax.models import heads

logger = logging.getLogger(__name__)

BLENDED = "blended"  # the method's name in `evaluation.npz`
BLENDED_IMAGES = 500  # first held-out images that a model's own finish is tested on


def evaluate(
    model: Model, dataset: Dataset, *, options: Options | None = None, contexts: Contexts | None = None
) -> tuple[dict[str, object], scores.Values]:
    """Evaluates a model and the classical methods in the same contexts.

    Args:
      model: trained.
      dataset: the held-out part is evaluated; the classical Gaussian process takes its length scale from
        training images.
      options: None = those of the model's configuration.
      contexts: of the held-out images that count; None = drawn as the options say.

    Returns:
      What `evaluation.json` holds, and what `evaluation.npz` holds: the values per image. Metrics that the
      model has no answer for are left out of both.
    """
    config, options = model.config, options or Options.of(model.config)
    images = dataset.evaluation[: options.num_images or None]
    if contexts is None:
        contexts = load_contexts(options, images.shape[:3])
    logger.info("Evaluating %s on %d held-out images of %s.", config.model.name, len(images), dataset.name)
    cells, values = [], {}
    for context in contexts.values():
        found = evaluate_images(model, images, context.masks, options, is_hole=context.is_hole)
        if options.rounds and "log_prob" in found:
            found |= by_rounds.evaluate_samples(model, images, context.masks, options)
        cell = scores.make_row(context, found, seed=options.seed)
        if context.is_hole:
            cell["bins"] = scores.by_area(context, found, seed=options.seed)
        cells.append(cell)
        values |= scores.name_values(context, found)
    blended, values_of_blended = _evaluate_blended(model, images, contexts, options)
    classical, values_of_classical = baselines.evaluate_classical(options, dataset, contexts)
    return {
        "model": config.model.name,
        "protocol": options.protocol,
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
        "num_samples": options.num_samples,
        "target": options.target,
        "rounds": by_rounds.describe(options),
        "coverage_levels": list(calibration.LEVELS),
        "cells": cells,
        "blended": blended,
        "classical": classical,
        "missing": baselines.missing_methods(contexts) if classical else [],
    }, values | values_of_blended | values_of_classical


def evaluate_images(
    model: Model, images: np.ndarray, masks: np.ndarray, options: Options, *, is_hole: bool = False
) -> scores.Values:
    """Evaluates images in batches of `options.batch_size`, which changes no number.

    Args:
      model: trained.
      images: uint8 (N, H, W, C).
      masks: bool (N, H, W, 1), True = observed.
      options: say how.
      is_hole: whether metrics of holes are measured as well.

    Returns:
      What `evaluate_batch` answers, one row per image.
    """
    measure = functools.partial(
        evaluate_batch,
        _make_key(options),
        model.module,
        num_samples=options.num_samples,
        target=options.target,
        is_hole=is_hole,
    )
    found = batches.measure(measure, model.variables, images, masks, batch_size=options.batch_size)
    if is_hole:
        truth = images.astype(np.float32) / 255
        found["hole_texture"] = inpainting.measure_texture(found.pop("prediction"), truth, masks)
    return found


def _make_key(options):
    """Of the latent samples."""
    return jax.random.fold_in(jax.random.key(options.seed), 1)


@functools.partial(jax.jit, static_argnames=("module", "num_samples", "target", "is_hole"))
def evaluate_batch(
    key, module, variables, images, mask, *, num_samples, target, is_hole=False
) -> dict[str, jax.Array]:
    """Evaluates a batch; compiled once per model, shape and options.

    Args:
      key: PRNG key of the latent samples.
      module: Flax module.
      variables: its parameters and other collections.
      images: uint8 (B, H, W, C).
      mask: bool (B, H, W, 1), True = observed.
      num_samples: latent samples per image.
      target: "all" or "unobserved" pixels in `log_prob`.
      is_hole: whether metrics of holes are measured.

    Returns:
      float32 (B,) each: what `scores.measure` answers; `ssim` of the completed image, where both sides are at
      least 11; in holes also the `prediction`, (B, H, W, C). Of a model with a likelihood `reconstruction`,
      as in `Terms`. With a latent variable `kl`, and `kl_per_dim` (B, Z). Of one with a scale `log_prob`
      (per value), `log_prob_per_image`, `crps` over the unobserved pixels, and their `coverage` (B, L) at
      `calibration.LEVELS`.
    """
    image, rngs = sampling.to_float(images), {"sample": key}
    terms = module.apply(variables, image, mask, train=False, target=target, rngs=rngs)
    num_samples = 1 if terms.kl is None else num_samples  # without a latent variable all are equal
    completion = module.apply(variables, image, mask, num_samples=num_samples, method="complete", rngs=rngs)
    prediction = jnp.clip(completion.samples.mean(axis=0), 0, 1)
    values = scores.measure(prediction, image, mask, is_hole=is_hole)
    if is_hole:
        values["prediction"] = prediction
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


def complete_images(model: Model, images: np.ndarray, masks: np.ndarray, options: Options) -> np.ndarray:
    """The predictions that are evaluated, observed pixels kept; float32 (N, H, W, C) in [0, 1].

    Args:
      model: trained.
      images: float32 (N, H, W, C) in [0, 1].
      masks: bool (N, H, W, 1), True = observed.
      options: say how.
    """
    key = _make_key(options)

    def complete(variables, image, mask):
        completion = predict.complete_batch(
            key, model.module, variables, image, mask, num_samples=options.num_samples
        )
        return {"prediction": jnp.clip(completion.samples.mean(axis=0), 0, 1)}

    # No more at once than in an evaluation, and no filling up of a few images to a whole batch.
    size = max(1, min(options.batch_size, len(images)))
    predicted = batches.measure(complete, model.variables, images, masks, batch_size=size)["prediction"]
    return np.where(masks, images, predicted)


def _evaluate_blended(model, images, contexts, options):
    """Rows and values of a model whose paper blends its answers into holes by OpenCV afterwards."""
    is_blended = model.module.is_finished_by_blending and not interpolation.hole_methods()[1]
    images = images[:BLENDED_IMAGES].astype(np.float32) / 255
    found, values = [], {}
    for context in list_holes(contexts.values()) if is_blended and len(images) else ():
        context = context.first(len(images))
        completed = complete_images(model, images, context.masks, options)
        blended = [opencv.blend(*one) for one in zip(completed, images, context.masks, strict=True)]
        measured = baselines.measure(np.stack(blended), images, context)
        method = f"{model.config.model.name}, {BLENDED}"
        found.append(scores.make_row(context, measured, seed=options.seed, method=method))
        values |= scores.name_values(context, measured, method=BLENDED)
    return found, values
