"""Texture distance: how unlike the small patches of two pictures are, wherever they lie."""

import numpy as np

PATCH = 5  # pixels
NUM_DIRECTIONS = 64


def texture_distance(x: np.ndarray, y: np.ndarray, where: np.ndarray) -> float:
    """Sliced Wasserstein distance of the patches of two pictures, without their means.

    The patches' values are projected on random directions of unit length, the same for all calls. The
    distance is the mean difference of the sorted projections (Rabin et al., "Wasserstein barycenter and its
    application to texture mixing", 2011). On the host, whose sort is many times faster than XLA's.

    Args:
      x: float (H, W, C) in [0, 1].
      y: likewise.
      where: bool (H, W), the centres of the patches that count; those beside a border have no whole patch.

    Returns:
      In grey levels of 8 bits, 1/255; NaN where no patch counts.
    """
    margin = PATCH // 2
    rows, columns = np.nonzero(where[margin:-margin, margin:-margin])
    if not len(rows):
        return float("nan")
    a, b = (_patches(values, rows, columns) for values in (x, y))
    directions = np.random.default_rng(0).normal(size=(a.shape[1], NUM_DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    return float(255 * np.abs(np.sort(a @ directions, axis=0) - np.sort(b @ directions, axis=0)).mean())


def _patches(values, rows, columns):
    windows = np.lib.stride_tricks.sliding_window_view(values, (PATCH, PATCH), axis=(0, 1))
    flat = windows[rows, columns].reshape(-1, values.shape[2], PATCH**2)
    return (flat - flat.mean(axis=2, keepdims=True)).reshape(len(flat), -1)
