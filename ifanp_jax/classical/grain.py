"""Grain: the fine detail that an estimate lacks, taken from the picture beside each mark.

A mean is smoother than what it stands for. What known pixels have above a blurred version of themselves is
noise and texture of the picture's own strength and correlation; cells of a mark show that of a place near by
with the same colours.
"""

import numpy as np
from scipy import ndimage

SIGMA = 1.5  # pixels, of the blur that leaves the detail
EDGE = 2  # pixels from missing ones, nearer than which detail is not taken
CELL = 16  # pixels, side of the blocks that are copied from one place
RADII, DIRECTIONS = (8, 14, 22, 32), 12  # of the places that are tried, pixels
ABSENT = 0.1  # squared distance of colours that stands for a place that is missing itself
AMOUNT = (0.6, 0.8, 1.0)  # of the detail, at 1, 2, and 3 or more pixels from what is known
ROWS = 512  # of the picture at once


def add(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The picture with grain where it is missing, as far as detail is found near by.

    Args:
      picture: float32 (H, W, C) in [0, 1], an estimate where missing.
      known: bool (H, W), True = observed.

    Returns:
      float32 (H, W, C) in [0, 1], known pixels as they were.
    """
    result, margin = picture.copy(), max(RADII) + int(8 * SIGMA) + 1
    for start in range(0, known.shape[0], ROWS):
        wanted = np.zeros_like(known)
        wanted[start : start + ROWS] = ~known[start : start + ROWS]
        if not wanted.any():
            continue
        (box,) = ndimage.find_objects(wanted.view(np.uint8))
        part = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in box)
        detail = _find_detail(picture[part], known[part], np.argwhere(wanted[part]))
        result[wanted] = np.clip(picture[wanted] + detail, 0, 1)
    return result


def _find_detail(picture, known, places):
    """What is added at int (N, 2) places, float32 (N, C)."""
    channels = range(picture.shape[2])
    share = np.maximum(ndimage.gaussian_filter(known.astype(np.float32), SIGMA), 1e-6)
    seen = np.where(known[..., None], picture, 0)
    smooth = np.stack([ndimage.gaussian_filter(seen[..., c], SIGMA) / share for c in channels], axis=-1)
    colors = ndimage.gaussian_filter(picture, (2 * SIGMA, 2 * SIGMA, 0))
    has_detail = ndimage.binary_erosion(known, iterations=EDGE, border_value=1)
    # Each cell of missing pixels takes the place around it whose colours are nearest.
    cells, cell_of = np.unique(places // CELL, axis=0, return_inverse=True)
    cell_of = cell_of.ravel()
    best = np.full(len(cells), np.inf)
    detail = np.zeros((len(places), len(channels)), np.float32)
    own = colors[tuple(places.T)]
    for offset in _list_offsets():
        there = places + offset
        is_inside = ((there >= 0) & (there < known.shape)).all(axis=1)
        rows, columns = np.where(is_inside[:, None], there, 0).T
        is_usable = is_inside & has_detail[rows, columns]
        difference = np.square(colors[rows, columns] - own).sum(axis=1)
        cost = np.bincount(cell_of, np.where(is_usable, difference, ABSENT), len(cells))
        is_better = (cost < best)[cell_of]
        best = np.minimum(best, cost)
        found = np.where(is_usable[:, None], seen[rows, columns] - smooth[rows, columns], 0)
        detail[is_better] = found[is_better]
    depth = ndimage.distance_transform_edt(~known)[tuple(places.T)]
    return detail * np.interp(depth, (1, 2, 3), AMOUNT)[:, None].astype(np.float32)


def _list_offsets():
    angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    for turn, radius in enumerate(RADII):
        for angle in angles + turn:  # so that no direction is tried at all distances
            yield np.rint(radius * np.array([np.sin(angle), np.cos(angle)])).astype(int)
