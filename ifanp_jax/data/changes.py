"""What pictures lose on the way into a data set: one line in the log for each kind of loss."""

import json
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ifanp_jax.data import image_ops

logger = logging.getLogger(__name__)


class Change(NamedTuple):
    """What became of one picture.

    Attributes:
      cropped: fraction of its pixels that is left out though nobody asked for a crop.
      factor: by which its size changes.
      has_alpha: it has transparency, which is left out.
      has_sixteen_bits: its values are rounded to 8 bits.
    """

    cropped: float = 0.0
    factor: float = 1.0
    has_alpha: bool = False
    has_sixteen_bits: bool = False


def to_array(picture, name: str) -> tuple[np.ndarray, bool]:
    """The pixels of an opened picture, as `image_ops.read_picture` gives them, and whether it has 16 bits."""
    has_sixteen_bits = image_ops.has_sixteen_bits(picture)
    return image_ops.to_array(image_ops.turn(picture), name), has_sixteen_bits


def find(image: np.ndarray, recipe: image_ops.Recipe, *, has_sixteen_bits: bool, is_whole: bool) -> Change:
    """What a recipe makes of a picture.

    Args:
      image: uint8 (H, W, C), C in 1..4.
      recipe: of it.
      has_sixteen_bits: whether its file has.
      is_whole: nothing is cropped but what the recipe says.
    """
    h, w, c = image.shape
    is_asked = is_whole or recipe.crop_size or recipe.crop_box
    cropped = image_ops.crop(image, size=recipe.crop_size, box=recipe.crop_box)
    factor = recipe.image_size / min(cropped.shape[:2]) if recipe.image_size else 1.0
    return Change(0.0 if is_asked else 1 - min(h, w) ** 2 / (h * w), factor, c in (2, 4), has_sixteen_bits)


def pack(changes: Sequence[Change]) -> np.ndarray:
    """A summary as uint8, which lies beside the images in the cache."""
    cropped, factors, alpha, sixteen_bits = zip(*changes, strict=True)
    summary = {
        "num_pictures": len(changes),
        "num_cropped": sum(fraction > 0 for fraction in cropped),
        "mean_cropped": sum(cropped) / len(changes),
        "max_cropped": max(cropped),
        "num_enlarged": sum(factor > 1 for factor in factors),
        "max_factor": max(factors),
        "num_alpha": sum(alpha),
        "num_sixteen_bits": sum(sixteen_bits),
    }
    return np.frombuffer(json.dumps(summary).encode(), np.uint8)


def unpack(packed: np.ndarray) -> dict[str, float]:
    """The summary that `pack` made."""
    return json.loads(packed.tobytes())


def tell(found: dict[str, float], where: str, image_size: int, *, advice: str = "") -> None:
    """Logs every kind of loss.

    Args:
      found: from `unpack`.
      where: the pictures come from.
      image_size: `config.data.image_size`.
      advice: how to keep what a crop leaves out.
    """
    count = found["num_pictures"]
    if found["num_cropped"]:
        logger.warning(
            "Cropped %d of %d pictures of %s to their central square, which leaves out %.0f %% of the pixels "
            "of a picture on average, and up to %.0f %% of the pixels of one%s.",
            found["num_cropped"],
            count,
            where,
            100 * found["mean_cropped"],
            100 * found["max_cropped"],
            advice,
        )
    if found["num_enlarged"]:
        logger.warning(
            "Enlarged %d of %d pictures of %s, by up to %.1f times, to config.data.image_size=%d; a smaller "
            "one keeps them sharp.",
            found["num_enlarged"], count, where, found["max_factor"], image_size,
        )  # fmt: skip
    if found["num_alpha"]:
        logger.warning(
            "Left out the transparency of %d of %d pictures of %s.", found["num_alpha"], count, where
        )
    if found["num_sixteen_bits"]:
        logger.warning(
            "Rounded %d of %d pictures of %s from 16 bits to 8.", found["num_sixteen_bits"], count, where
        )
