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
    dataset = dataclasses.replace(
        dataset,
        train=_first(dataset.train, config_data.max_train_images),
        evaluation=_first(dataset.evaluation, config_data.max_eval_images),
    )
    check(dataset)
    return dataset


def _first(images: np.ndarray, limit: int) -> np.ndarray:
    return images[:limit] if limit > 0 else images


def check(dataset: Dataset) -> None:
    """Checks what every other module relies on.

    Args:
      dataset: what a source returned.

    Raises:
      UserError: an array is not uint8 (N, H, W, 1 or 3), is empty, or the two differ in (H, W, C).
    """
    for part in ("train", "evaluation"):
        images = getattr(dataset, part)
        if (
            images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[-1] not in (1, 3)
            or 0 in images.shape
        ):
            raise UserError(
                f"The {part} images of {dataset.name} are {images.dtype} {images.shape} but must be uint8 "
                "(N, H, W, 1 or 3) with at least one image: convert them."
            )
    if dataset.train.shape[1:] != dataset.evaluation.shape[1:]:
        raise UserError(
            f"The training images of {dataset.name} have shape {dataset.train.shape[1:]} and the held-out "
            f"ones {dataset.evaluation.shape[1:]} but both must be equal: set data.image_size and "
            "data.channels."
        )
