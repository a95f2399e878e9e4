"""Completion by patches of the image itself: nearest windows, votes, coarse to fine.

Completion: Wexler et al., "Space-time video completion", 2007. On each level of a pyramid, every window that
meets the hole finds its nearest wholly known window (E), and every hole pixel becomes a weighted mean of what
its windows' matches have there (M). Constants are ours.

On the host, in NumPy. The search is exact: among all windows up to MAX_WHOLE_SIDE, by blocks of matrix
products; above, among those around the coarser level's match. Nothing is drawn at random: the randomised
search of Barnes et al. ("PatchMatch", 2009), after which such methods are called, is not used.
"""

import chex
import numpy as np

from ifanp_jax.classical.opencv import EMPTY_INTENSITY

MAX_WHOLE_SIDE = 128  # pixels; on a larger level of the pyramid only the surroundings are searched
RADIUS = 2  # of them, pixels
MIN_WINDOWS = 100  # wholly known ones on the coarsest level
SMALL_SIDE = 32  # up to it windows have SMALL_WINDOW pixels, above LARGE_WINDOW
SMALL_WINDOW, LARGE_WINDOW = 5, 7
MIN_CHANGE = 1 / 255  # intensities; smaller changes end a level
KERNEL = np.float32([1, 5, 10, 10, 5, 1]) / 32  # of the halving, along each axis
BLOCK_ENTRIES = 2**24  # distances held at once


def complete(image: np.ndarray, mask: np.ndarray, *, max_whole_side: int = MAX_WHOLE_SIDE) -> np.ndarray:
    """Completes one image from its known pixels.

    Args:
      image: float (H, W, C) in [0, 1]; hidden pixels are never read.
      mask: bool (H, W, 1), True = observed.
      max_whole_side: on levels of the pyramid with a longer side, surroundings are searched.

    Returns:
      float32 (H, W, C), known pixels as they were.
    """
    chex.assert_rank([image, mask], 3)
    chex.assert_type([image, mask], [float, bool])
    chex.assert_shape(mask, (*image.shape[:2], 1))
    known = np.asarray(mask)[:, :, 0]
    values = np.where(known[:, :, None], np.asarray(image, np.float32), np.float32(0))
    if not known.any():
        return np.full_like(values, EMPTY_INTENSITY)
    if known.all():
        return values
    window = choose_window(known)
    # Halve the image while enough of it is known.
    levels = [(values, known)]
    while min(levels[-1][1].shape) >= 2:
        coarser = halve(*levels[-1])
        if _whole_windows(coarser[1], window).sum() < MIN_WINDOWS:
            break
        levels.append(coarser)
    # Complete the coarsest level, and refine what it gives on each finer one.
    result, field = fill_nearest(*levels[-1]), None
    for level in reversed(range(len(levels))):
        values, known = levels[level]
        if level < len(levels) - 1:
            result = np.where(known[:, :, None], values, _enlarge(result, known.shape))
        start = None if max(known.shape) <= max_whole_side else field
        result, field = _refine(result, known, window, level, start)
    return np.clip(result, 0, 1)


def choose_window(known: np.ndarray) -> int:
    """p: 5 pixels for sides up to 32 and 7 above, or less where no window would be wholly known."""
    largest = SMALL_WINDOW if max(known.shape) <= SMALL_SIDE else LARGE_WINDOW
    return next(p for p in (7, 5, 3, 1) if p <= largest and _whole_windows(known, p).any())


def _whole_windows(known, window):
    """Where a wholly known window of `window` x `window` pixels begins, bool (h, w)."""
    if min(known.shape) < window:
        return np.zeros((0, 0), bool)
    return np.lib.stride_tricks.sliding_window_view(known, (window, window)).all(axis=(2, 3))


def halve(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Halves an image of at least 2x2 pixels by the mean of its known ones, weighted by KERNEL.

    Returns:
      float32 (H // 2, W // 2, C) and bool (H // 2, W // 2), known where the weight is at least 1/2.
    """

    def filtered(x):
        for axis in (0, 1):
            side = x.shape[axis] // 2 * 2
            x = np.moveaxis(x, axis, 0)[:side]
            padded = np.pad(x, ((2, 2), *((0, 0),) * (x.ndim - 1)))
            x = np.moveaxis(
                sum(weight * padded[i : i + side : 2] for i, weight in enumerate(KERNEL)), 0, axis
            )
        return x

    weight = filtered(known.astype(np.float32))
    is_known = weight >= 0.5
    mean = filtered(values) / np.where(is_known, weight, 1)[:, :, None]
    return np.where(is_known[:, :, None], mean, np.float32(0)), is_known


def fill_nearest(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Gives every unknown pixel the value of the nearest known one."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return values[rows, columns]


def _enlarge(values, shape):
    rows = np.minimum(np.arange(shape[0]) // 2, values.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // 2, values.shape[1] - 1)
    return values[rows[:, None], columns[None, :]]


def _refine(values, known, window, level, coarse_field):
    """Rounds of search and vote on one level: of all windows, or around a coarser level's matches."""
    whole = _whole_windows(known, window)
    queries, sources = np.argwhere(~whole), np.argwhere(whole)
    matches = None if coarse_field is None else _enlarge_field(coarse_field, queries)
    for _ in range(2 + 2 * level if len(queries) else 0):
        windows = np.lib.stride_tricks.sliding_window_view(values, (window, window), axis=(0, 1))
        if coarse_field is None:
            matches = sources[search_exactly(windows[tuple(queries.T)], windows[tuple(sources.T)])]
        else:
            matches = search_nearby(windows, queries, whole, matches)
        voted = vote(values, known, queries, matches, window)
        change = np.abs(voted - values).max()
        values = voted
        if change < MIN_CHANGE:
            break
    field = np.argwhere(np.ones(whole.shape, bool)).reshape(*whole.shape, 2)  # a known window matches itself
    if len(queries):
        field[tuple(queries.T)] = matches
    return values, field


def _enlarge_field(field, queries):
    """Where the coarser level's match lies on this one, for each target."""
    coarse = np.minimum(queries // 2, np.array(field.shape[:2]) - 1)
    return 2 * field[tuple(coarse.T)] + queries % 2


def search_exactly(queries: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """The nearest source of each target by |a|^2 - 2 a b + |b|^2, in blocks; ties go to the lowest index."""
    # About mid-grey the squares are small, and so is what their difference loses.
    a, b = (x.reshape(len(x), -1) - np.float32(0.5) for x in (queries, sources))
    # |b|^2 - 2 a b as one product; |a|^2 is the same for all sources.
    a = np.concatenate([-2 * a, np.ones((len(a), 1), np.float32)], axis=1)
    b = np.concatenate([b, np.einsum("sd,sd->s", b, b)[:, None]], axis=1)
    block = max(1, BLOCK_ENTRIES // len(b))
    nearest = [np.argmin(a[start : start + block] @ b.T, axis=1) for start in range(0, len(a), block)]
    return np.concatenate(nearest)


def search_nearby(
    windows: np.ndarray, queries: np.ndarray, whole: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """The nearest of all windows up to RADIUS rows and columns from a first match; where none, that match.

    Args:
      windows: float32 (h, w, ...), all windows of the image.
      queries: int (T, 2), positions (row, column) of the windows to be matched.
      whole: bool (h, w), the windows that may be matches.
      start: int (T, 2), the coarser level's matches; one that is no possible match becomes the nearest one.

    Returns:
      int (T, 2), positions of possible matches.
    """
    from scipy.ndimage import distance_transform_edt

    first = np.clip(start, 0, np.array(whole.shape) - 1)
    if not whole[tuple(first.T)].all():  # so it is on a level's first round alone
        nearest = distance_transform_edt(~whole, return_distances=False, return_indices=True)
        first = np.stack([axis[tuple(first.T)] for axis in nearest], axis=1)
    wanted = windows[tuple(queries.T)].reshape(len(queries), -1)
    matches, best = first.copy(), np.full(len(queries), np.inf, np.float32)
    moves = range(-RADIUS, RADIUS + 1)
    for move in ((down, across) for down in moves for across in moves):
        place = first + move
        is_there = ((place >= 0) & (place < whole.shape)).all(axis=1)
        place = np.where(is_there[:, None], place, first)
        difference = windows[tuple(place.T)].reshape(len(queries), -1) - wanted
        found = np.einsum("td,td->t", difference, difference)
        is_better = is_there & whole[tuple(place.T)] & (found < best)
        matches[is_better], best[is_better] = place[is_better], found[is_better]
    return matches


def vote(
    values: np.ndarray, known: np.ndarray, queries: np.ndarray, matches: np.ndarray, window: int
) -> np.ndarray:
    """Hole pixels become the weighted mean of what the matches of the windows around them have there.

    A window's weight is exp(-d2 / (2 s2)), d2 its match's mean squared difference, s2 the 75th percentile of
    d2.
    """
    steps = [(i, j) for i in range(window) for j in range(window)]
    differences = [
        np.square(values[tuple((queries + step).T)] - values[tuple((matches + step).T)]).mean(axis=1)
        for step in steps
    ]
    d2 = np.mean(differences, axis=0)
    weights = np.exp(-d2 / (2 * max(float(np.percentile(d2, 75)), 1e-8))) + 1e-12
    total, mass = np.zeros(values.shape), np.zeros(known.shape)
    for step in steps:  # with one step, all queries have different pixels
        pixels = tuple((queries + step).T)
        total[pixels] += weights[:, None] * values[tuple((matches + step).T)]
        mass[pixels] += weights
    is_filled = ~known & (mass > 0)
    mean = total / np.where(is_filled, mass, 1)[:, :, None]
    return np.where(is_filled[:, :, None], mean, values).astype(np.float32)
