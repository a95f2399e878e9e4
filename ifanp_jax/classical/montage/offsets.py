"""Offsets by which a picture may be copied into its hole.

Two kinds. How the known parts repeat: the offsets to their nearest other patches, of which few are frequent
(He and Sun, "Statistics of patch offsets for image completion", 2012). And where the picture looks as the
guide does in the hole: the offsets from the hole to its nearest known patches, both without detail.
"""

import numpy as np
from scipy import ndimage

PATCH = 8  # pixels
COMPONENTS = 24  # principal ones, by which patches are compared
NUM_REPEATED, NUM_GUIDED = 50, 60  # offsets of the two kinds, at most
MIN_LENGTH = 1 / 15  # of the picture's longest side: a shorter offset is smoothness, not repetition
REPEATED_BLUR, GUIDED_BLUR = 1.4, 2.0  # pixels, of the two histograms
DETAIL = 1.5  # pixels, the blur that takes the detail away
MAX_QUERIES, MAX_KEYS, MAX_FITTED = 6000, 20000, 4000  # patches, drawn at random where there are more
BLOCK = 256  # queries whose distances are held at once


def find(picture: np.ndarray, known: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The offsets worth trying.

    Args:
      picture: float32 (H, W, C), the guide where missing.
      known: bool (H, W).

    Returns:
      int (K, 2), rows and columns; none where no whole patch is known.
    """
    windows = np.lib.stride_tricks.sliding_window_view(known, (PATCH, PATCH))
    whole = windows.all(axis=(2, 3))
    if not whole.any():
        return np.zeros((0, 2), int)
    places = np.argwhere(whole)
    keys = _draw(places, MAX_KEYS, generator)
    shortest = MIN_LENGTH * max(known.shape)
    # How the surroundings of the hole repeat.
    missing = np.argwhere(~known)
    first, last = missing.min(axis=0), missing.max(axis=0)
    extent = last - first + 1
    is_near = ((places >= first - extent - PATCH) & (places <= last + extent)).all(axis=1)
    queries = _draw(places[is_near], MAX_QUERIES, generator)
    features = _describe(picture, generator)
    repeated = _match(features, queries, keys, shortest)
    # What looks like the guide.
    blurred = ndimage.gaussian_filter(picture, (DETAIL, DETAIL, 0))
    guided_at = _draw(np.argwhere(~whole), MAX_QUERIES, generator)
    guided = _match(_describe(blurred, generator), guided_at, keys, 0)
    return np.unique(
        np.concatenate(
            [
                _find_peaks(repeated, known.shape, NUM_REPEATED, REPEATED_BLUR),
                _find_peaks(guided, known.shape, NUM_GUIDED, GUIDED_BLUR),
            ]
        ),
        axis=0,
    )


def _draw(places, count, generator):
    if len(places) <= count:
        return places
    return places[np.sort(generator.choice(len(places), count, replace=False))]


def _describe(picture, generator):
    """Principal components of every patch, float32 (H', W', COMPONENTS)."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (PATCH, PATCH), axis=(0, 1))
    flat = windows.reshape(windows.shape[0] * windows.shape[1], -1)
    sample = _draw(flat, MAX_FITTED, generator)
    mean = sample.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((sample - mean).T))
    basis = vectors[:, -COMPONENTS:].astype(np.float32)
    return ((flat - mean) @ basis).reshape(*windows.shape[:2], -1)


def _match(features, queries, keys, shortest):
    """Offsets int (Q, 2) to the nearest keys, at least `shortest` pixels away: exact, by blocks.

    Both are in the order of rows, so that a block has few keys that are too close to some of it.
    """
    at_keys = features[tuple(keys.T)]
    half_norms = np.einsum("kd,kd->k", at_keys, at_keys) / 2
    found = np.zeros(len(queries), int)
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        similarity = features[tuple(block.T)] @ at_keys.T
        similarity -= half_norms
        if shortest:
            reach = np.searchsorted(keys[:, 0], (block[0, 0] - shortest, block[-1, 0] + shortest))
            beside = slice(*reach)
            rows, columns = (np.abs(block[:, None, axis] - keys[beside, axis]) for axis in (0, 1))
            similarity[:, beside][(rows < shortest) & (columns < shortest)] = -np.inf
        found[start : start + BLOCK] = similarity.argmax(axis=1)
    return keys[found] - queries


def _find_peaks(offsets, size, count, blur):
    """The highest peaks of the offsets' smoothed histogram, int (K, 2)."""
    histogram = np.zeros((2 * size[0] + 1, 2 * size[1] + 1), np.float32)
    np.add.at(histogram, tuple((offsets + size).T), 1)
    histogram = ndimage.gaussian_filter(histogram, blur)
    is_peak = (histogram == ndimage.maximum_filter(histogram, 5)) & (histogram > 0)
    order = np.argsort(-histogram[is_peak], kind="stable")[:count]
    return np.argwhere(is_peak)[order] - size
