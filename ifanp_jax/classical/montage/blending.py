"""Gradient blending: parts of a picture put into a hole without visible seams.

Poisson's equation with the parts' gradients (Perez et al., "Poisson image editing", 2003), solved directly.
"""

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from ifanp_jax.classical.montage.pixels import Hole, is_known, look


def blend(picture: np.ndarray, known: np.ndarray, hole: Hole, offsets: np.ndarray) -> np.ndarray:
    """The colours of a hole whose gradients are those of its parts and whose border is the picture's.

    Args:
      picture: float32 (H, W, C), any value where missing.
      known: bool (H, W).
      hole: its N pixels and their neighbours.
      offsets: int (N, 2), from each pixel to the one that it shows.

    Returns:
      float32 (N, C), clipped to [0, 1].
    """
    points, count = hole.points, len(hole.points)
    first, second = hole.pairs.T
    inner, outer = hole.border, hole.outside
    # The wanted difference of two neighbours: the mean over the parts that both of them show.
    wanted = np.zeros((len(first), picture.shape[2]), np.float32)
    for part in (offsets[first], offsets[second]):
        wanted += (look(picture, points[first] + part) - look(picture, points[second] + part)) / 2
    own = look(picture, points + offsets)
    beyond = outer + offsets[inner]
    reference = np.where(is_known(known, beyond)[:, None], look(picture, beyond), look(picture, outer))
    # One row for each pixel: the differences to all of its neighbours, summed.
    towards_known = own[inner] - reference + look(picture, outer)
    degree = np.bincount(np.concatenate([first, second, inner]), minlength=count)
    entries = np.concatenate([degree.astype(np.float64), np.full(2 * len(first), -1.0)])
    rows = np.concatenate([np.arange(count), first, second])
    columns = np.concatenate([np.arange(count), second, first])
    matrix = sparse.csc_array((entries, (rows, columns)), shape=(count, count))
    right = np.stack(
        [
            np.bincount(first, wanted[:, c], count)
            - np.bincount(second, wanted[:, c], count)
            + np.bincount(inner, towards_known[:, c], count)
            for c in range(picture.shape[2])
        ],
        axis=-1,
    )
    solver = linalg.splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    return np.clip(solver.solve(right), 0, 1).astype(np.float32)
