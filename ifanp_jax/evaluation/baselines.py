"""Classical methods in the same contexts: the numbers that a trained model has to beat."""

import logging

import numpy as np

from ifanp_jax.classical import interpolation
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import scores
from ifanp_jax.evaluation.contexts import Contexts
from ifanp_jax.evaluation.options import Options
from ifanp_jax.metrics import inpainting

logger = logging.getLogger(__name__)

NUM_TRAINING_IMAGES = 16  # for the choice of the Gaussian process's length scale


def evaluate_classical(
    options: Options, dataset: Dataset, contexts: Contexts
) -> tuple[list[dict[str, object]], scores.Values]:
    """Evaluates interpolation, and in holes the methods for holes, on the first images.

    Args:
      options: `classical_images` says how many.
      dataset: held-out images, and training images for the Gaussian process's length scale.
      contexts: of the held-out images.

    Returns:
      One row per context and method, and the values per image.
    """
    images = first_images(options, dataset)
    found, values = [], {}
    if not len(images) or not contexts:
        return found, values
    interpolations, hole_methods = (
        interpolation.scattered_methods(*images.shape[1:3]),
        interpolation.hole_methods()[0],
    )
    length_scale = {}
    if "gaussian_process" in interpolations and not all(context.is_hole for context in contexts.values()):
        training_images = np.asarray(dataset.train[:NUM_TRAINING_IMAGES], np.float32) / 255
        length_scale = {"length_scale": interpolation.select_length_scale(training_images, seed=options.seed)}
    for name, context in contexts.items():
        methods = hole_methods if context.is_hole else interpolations
        logger.info("Classical methods, %s, %d images: %s.", name, len(images), ", ".join(methods))
        context = context.first(len(images))
        completed = interpolation.complete_images(images, context.masks, methods=methods, **length_scale)
        for method, prediction in completed.items():
            measured = measure(prediction, images, context)
            found.append(scores.make_row(context, measured, seed=options.seed, method=method))
            values |= scores.name_values(context, measured, method=method)
    return found, values


def measure(prediction, images, context) -> scores.Values:
    """`scores.measure` of arrays on the host."""
    measured = scores.measure(prediction, images, context.masks, is_hole=context.is_hole)
    measured = {name: np.asarray(value) for name, value in measured.items()}
    if context.is_hole:
        measured["hole_texture"] = inpainting.measure_texture(prediction, images, context.masks)
    return measured


def missing_methods(contexts: Contexts) -> list[str]:
    """Names of methods for these contexts that need OpenCV, where it is not installed."""
    has_holes = any(context.is_hole for context in contexts.values())
    return list(interpolation.hole_methods()[1]) if has_holes else []


def first_images(options: Options, dataset: Dataset) -> np.ndarray:
    """The images that slow methods are tested on, float32 (N, H, W, C) in [0, 1].

    Args:
      options: says how many.
      dataset: of the held-out images.
    """
    limit = min(options.classical_images, options.num_images or options.classical_images)
    return np.asarray(dataset.evaluation[:limit], np.float32) / 255
