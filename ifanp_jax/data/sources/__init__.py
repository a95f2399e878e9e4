"""`load(config.data)`: images from any source, checked and limited."""

import dataclasses
import importlib

import numpy as np

from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError

SOURCES = ("digits", "tfds", "folder", "arrays")


def load(config_data) -> Dataset:
    """Loads the training and held-out images that `config.data` describes.

    Args:
      config_data: `config.data`, with every field.

    Returns:
      uint8 (N, H, W, C) and (M, H, W, C) in [0, 255], C = 1 or 3, N and M from 1 to `max_*_images`.

    Raises:
      UserError: the source is unknown, or its input is not usable.
    """
    if config_data.source not in SOURCES:
        raise UserError(
            f"data.source is {config_data.source!r} but must be one of {', '.join(SOURCES)}: set it to one "
            "of these."
        )
    for name in ("max_train_images", "max_eval_images"):
        if config_data[name] < 0:
            raise UserError(
                f"data.{name} is {config_data[name]} but must be 0 (all) or a number of images: set it."
            )
    if config_data.source in ("tfds", "arrays") and config_data.train_split == config_data.eval_split:
        raise UserError(
            f"data.train_split and data.eval_split are both {config_data.train_split!r} but evaluation must "
            "be held out: name two different splits."
        )
    source = importlib.import_module(f"{__name__}.{config_data.source}")
    dataset = source.load(config_data)
    return dataclasses.replace(
        dataset,
        train=_first(dataset.train, config_data.max_train_images),
        evaluation=_first(dataset.evaluation, config_data.max_eval_images),
    )


def _first(images: np.ndarray, limit: int) -> np.ndarray:
    return images[:limit] if limit > 0 else images
