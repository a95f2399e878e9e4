"""At which size a model runs: what `size="auto"` chooses, and why, in words."""

import dataclasses

import flax.linen as nn
import numpy as np

from ifanp_jax.inference import pyramid
from ifanp_jax.inference.limits import Limits, find_high_cost

# How deep in a hole a pixel may be, of the trained pictures' shorter side. In tiles, coarse to fine completes
# deeper ones better, also such as a training has; a model without tiles has only its trained size instead.
DEEP, DEEP_WITHOUT_TILES = 1 / 8, 1 / 2
SCATTERED_DEPTH = 6.0  # pixels: so deep are the gaps between scattered ones, which need no coarser level


@dataclasses.dataclass(frozen=True)
class Choice:
    """How pictures are completed.

    Attributes:
      how: "own", "trained" or "tiles".
      reason: a part of a sentence.
    """

    how: str
    reason: str


def max_depth(image_shape: tuple[int, int, int]) -> float:
    """Distance from a missing pixel to the nearest observed one up to which tiles need no coarser level.

    Args:
      image_shape: (H, W, C) of the training.

    Returns:
      Pixels.
    """
    return max(SCATTERED_DEPTH, DEEP * min(image_shape[:2]))


def choose(model: nn.Module, image_shape: tuple[int, int, int], mask: np.ndarray, limits: Limits) -> Choice:
    """What `size="auto"` means for pictures of one size.

    Args:
      model: says what it takes by `takes_size`, and, where it can answer tile by tile, how far it looks by
        `tile_margin`.
      image_shape: (H, W, C) of the training.
      mask: bool (B, H, W, 1), True = observed.
      limits: of memory and operations.
    """
    size, trained = mask.shape[1:3], image_shape[:2]
    shape = "x".join(str(side) for side in trained)
    if size == trained:
        return Choice("own", f"the pictures of the training have this size, {shape}")
    if has_tiles(model):
        return Choice("tiles", "the model takes any size")
    if model.takes_size(size, trained):
        return Choice("trained", f"the model does not take {size[0]}x{size[1]} pixels")
    if cost := find_high_cost(model, image_shape, size, limits):
        return Choice("trained", f"at its own size the picture would cost this model {cost}")
    allowed = DEEP_WITHOUT_TILES * min(trained)
    deepest = max(float(pyramid.measure_depth(x, beyond=allowed).max()) for x in mask[..., 0])
    if max(size) > max(trained) and deepest > allowed:
        return Choice(
            "trained",
            f"a missing pixel is {deepest:.0f} pixels from the nearest observed one, further than in the "
            f"training, at {shape}",
        )
    return Choice("own", "the model takes this size, and the holes are small enough for it")


def has_tiles(model: nn.Module) -> bool:
    """Whether a model can complete a picture tile by tile."""
    return getattr(model, "tile_margin", lambda: None)() is not None
