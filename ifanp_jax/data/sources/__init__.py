"""`load(config.data)`: images from any source, checked and limited."""

import dataclasses
import importlib

import numpy as np

from ifanp_jax import errors
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
    errors.check_choice("config.data.source", config_data.source, SOURCES)
    for name in ("max_train_images", "max_eval_images"):
        errors.check_range(f"config.data.{name}", config_data[name], 0)
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
