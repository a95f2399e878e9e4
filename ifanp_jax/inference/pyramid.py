"""Large holes, coarse to fine: the picture at several sizes, each half as large as the one before.

A model that was trained on small crops has hardly seen a pixel that is far from every observed one. So the
picture is halved until none is. The smallest one is completed first. Its answer, enlarged, becomes context of
the next larger one: on a grid of every GUIDE_SPACING-th pixel, from GUIDE_DEPTH of the allowed depth on, in
and around the parts that are too deep. The model completes between the grid's pixels and the observed ones,
with their detail, and at last the grid's own pixels from all others. The standard deviation adds up:
sqrt(fine^2 + (weight coarse)^2), where the weight rises from 0 to 1 over the depth at which the grid begins.
Deeper inside no detail can be known: the mean goes over to the enlarged one, over twice that depth. Samples
have the detail everywhere.
"""

from typing import NamedTuple

import numpy as np

from ifanp_jax.data import image_ops
from ifanp_jax.inference import tiles

GUIDE_SPACING = 6  # pixels
GUIDE_DEPTH = 0.25  # of the allowed depth
MIN_SIDE = 8  # pixels of the smallest level


class Level(NamedTuple):
    """A picture at one size; the coarsest level has the first two alone."""

    image: np.ndarray  # float32 (H, W, C) in [0, 1], 0 where unknown
    known: np.ndarray  # bool (H, W)
    guide: np.ndarray | None = None  # bool (H, W), where the coarser level's answer becomes context
    weight: np.ndarray | None = None  # float32 (H, W, 1) in [0, 1], of the coarser level's deviation
    share: np.ndarray | None = None  # likewise, of the coarser level's mean in that of this one


def measure_depth(known: np.ndarray, *, beyond: float = 0.0) -> np.ndarray:
    """Distance of each pixel of `known`, bool (H, W), to the nearest known one.

    Args:
      beyond: pixels; where no distance is above it they may all be 0, which is found faster.

    Returns:
      float32 (H, W), pixels; 0 where known, and everywhere where nothing is.
    """
    from scipy import ndimage

    if not known.any() or _all_within(known, beyond):
        return np.zeros(known.shape, np.float32)
    depth = np.zeros(known.shape, np.float32)
    box = tiles.find_box(~known, margin=1)  # the nearest known pixels touch what is hidden
    depth[box] = ndimage.distance_transform_edt(~known[box])
    return depth


def _all_within(known, distance):
    """True only where each pixel has a known one within a distance: one in each square of that diagonal."""
    side = 1 + int(distance / np.sqrt(2))
    height, width = (np.arange(0, size, side) for size in known.shape)
    return np.logical_or.reduceat(np.logical_or.reduceat(known, height, axis=0), width, axis=1).all()


def make_levels(image: np.ndarray, known: np.ndarray, depth: np.ndarray, max_depth: float) -> list[Level]:
    """The picture itself, and its halves until no pixel is deeper than allowed; the largest first."""
    levels = []
    while depth.max() > max_depth and min(known.shape) >= 2 * MIN_SIDE:
        start = GUIDE_DEPTH * max_depth
        deep = (depth > start) & _surround(depth > max_depth, 2 * max_depth)
        grid = np.zeros(known.shape, bool)
        grid[GUIDE_SPACING // 2 :: GUIDE_SPACING, GUIDE_SPACING // 2 :: GUIDE_SPACING] = True
        further = np.where(deep, (depth - start) / start, np.float32(0))[..., None]
        parts = {"weight": np.minimum(further, 1), "share": np.minimum(further / 2, 1)}
        levels.append(Level(image, known, deep & grid, **parts))
        image, known = halve(image, known)
        depth = measure_depth(known, beyond=max_depth)
    return [*levels, Level(image, known)]


def _surround(pixels, distance):
    """The pixels, bool (H, W), and those around them up to a distance along each axis."""
    from scipy import ndimage

    return ndimage.maximum_filter(pixels.view(np.uint8), size=2 * int(distance) + 1).view(bool)


def halve(image: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of the known pixels of each 2x2 block, and whether there is one; sides are rounded up."""
    height, width = (-(-side // 2) for side in known.shape)
    padding = [(0, 2 * height - known.shape[0]), (0, 2 * width - known.shape[1])]
    known, image = np.pad(known, padding), np.pad(image, [*padding, (0, 0)])
    count = known.reshape(height, 2, width, 2).sum(axis=(1, 3), dtype=np.float32)
    total = image.reshape(height, 2, width, 2, -1).sum(axis=(1, 3))
    return total / np.maximum(count, 1)[..., None], count > 0


def enlarge(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The inverse of `halve`, by bilinear interpolation to (H, W) = `size`."""
    height, width = (2 * side for side in values.shape[:2])
    return image_ops.resize_area(values, height, width)[: size[0], : size[1]]
