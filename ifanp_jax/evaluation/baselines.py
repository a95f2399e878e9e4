"""Interpolation under the test protocol: the numbers that a trained model has to beat."""

import logging
import math

import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.classical import interpolation
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import image_values
from ifanp_jax.evaluation.cells import draw_contexts, list_cells

logger = logging.getLogger(__name__)

NUM_TRAINING_IMAGES = 16  # for the choice of the Gaussian process's length scale


def evaluate_classical(config: ConfigDict, dataset: Dataset) -> list[dict[str, object]]:
    """Evaluates interpolation on the first images of the same contexts.

    Args:
      config: `config.evaluate`.
      dataset: held-out images, and training images for the Gaussian process's length scale.

    Returns:
      One row per method, mask and fraction.
    """
    images = first_images(config, dataset)
    if not len(images) or not list_cells(config):
        return []
    methods = interpolation.methods_for(*images.shape[1:3])
    logger.info("Evaluating interpolation (%s) on %d of them.", ", ".join(methods), len(images))
    options = {}
    if "gaussian_process" in methods:
        training_images = np.asarray(dataset.train[:NUM_TRAINING_IMAGES], np.float32) / 255
        options["length_scale"] = interpolation.select_length_scale(training_images, seed=config.seed)
    rows = []
    for kind, fraction in list_cells(config):
        context = draw_contexts(config.seed, kind, fraction, images.shape[:3])
        completed = interpolation.complete_images(images, context, methods=methods, **options)
        for method, prediction in completed.items():
            measured = image_values.measure(prediction, images, context)
            summary = image_values.summarise(
                {name: np.asarray(value) for name, value in measured.items()}, seed=config.seed
            )
            rows.append({"method": method, "mask": kind, "fraction": fraction} | summary)
    return rows


def first_images(config, dataset: Dataset) -> np.ndarray:
    """The images that slow methods are tested on, float32 (N, H, W, C) in [0, 1].

    Args:
      config: `config.evaluate`.
      dataset: of the held-out images.
    """
    limit = min(config.classical_images, config.num_images or config.classical_images)
    return np.asarray(dataset.evaluation[:limit], np.float32) / 255


def rows_of_cell(rows: list[dict], cell: dict) -> list[dict]:
    """The rows with a cell's mask and fraction, one per method.

    Args:
      rows: from `evaluate_classical`.
      cell: anything with `mask` and `fraction`.
    """
    return [
        row for row in rows if row["mask"] == cell["mask"] and math.isclose(row["fraction"], cell["fraction"])
    ]


def best_classical(rows: list[dict], cell: dict) -> dict | None:
    """The row of a cell with the highest `psnr_completed`; None where nothing was interpolated.

    Args:
      rows: from `evaluate_classical`.
      cell: anything with `mask` and `fraction`.
    """
    return max(rows_of_cell(rows, cell), key=lambda row: row["psnr_completed"], default=None)
