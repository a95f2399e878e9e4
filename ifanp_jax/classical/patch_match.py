"""Completion by patches of the image itself: nearest windows, votes, coarse to fine.

Search: Barnes et al., "PatchMatch", 2009. Completion: Wexler et al., "Space-time video completion", 2007. On
each level of a pyramid, every window that meets the hole finds its nearest wholly known window (E), and
every hole pixel becomes a weighted mean of what its windows' matches have there (M). Constants are ours.

On the host, in NumPy. The search is exact up to MAX_EXACT_SIDE, by blocks of matrix products; above, it is
PatchMatch's randomised one, which also tries the matches of the last round and of the coarser level.
"""

import chex
import numpy as np

from ifanp_jax.classical.opencv import EMPTY_INTENSITY

MAX_EXACT_SIDE = 128  # pixels; a larger level of the pyramid is searched at random
MIN_WINDOWS = 100  # wholly known ones on the coarsest level
SMALL_SIDE = 32  # up to it windows have SMALL_WINDOW pixels, above LARGE_WINDOW
SMALL_WINDOW, LARGE_WINDOW = 5, 7
MIN_CHANGE = 1 / 255  # intensities; smaller changes end a level
KERNEL = np.float32([1, 5, 10, 10, 5, 1]) / 32  # of the halving, along each axis
BLOCK_ENTRIES = 2**24  # distances held at once
NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))


def complete(
    image: np.ndarray, mask: np.ndarray, *, seed: int = 0, max_exact_side: int = MAX_EXACT_SIDE
) -> np.ndarray:
    """Completes one image from its known pixels.

    Args:
      image: float (H, W, C) in [0, 1]; hidden pixels are never read.
      mask: bool (H, W, 1), True = observed.
      max_exact_side: levels of the pyramid with a longer side are searched at random.

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
    generator = np.random.default_rng(seed)
    result, field = fill_nearest(*levels[-1]), None
    for level in reversed(range(len(levels))):
        values, known = levels[level]
        if level < len(levels) - 1:
            result = np.where(known[:, :, None], values, _enlarge(result, known.shape))
        exact = max(known.shape) <= max_exact_side
        result, field = _refine(result, known, window, level, None if exact else generator, field)
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


def _refine(values, known, window, level, generator, coarse_field):
    """Rounds of search and vote on one level; with a generator the search is random."""
    whole = _whole_windows(known, window)
    queries, sources = np.argwhere(~whole), np.argwhere(whole)
    matches = _enlarge_field(coarse_field, queries)
    for _ in range(2 + 2 * level if len(queries) else 0):
        windows = np.lib.stride_tricks.sliding_window_view(values, (window, window), axis=(0, 1))
        if generator is None:
            matches = sources[search_exactly(windows[tuple(queries.T)], windows[tuple(sources.T)])]
        else:
            matches = search_randomly(windows, queries, whole, generator, level=level, start=matches)
        voted = vote(values, known, queries, matches, window)
        change = np.abs(voted - values).max()
        values = voted
        if change < MIN_CHANGE:
            break
    field = np.argwhere(np.ones(whole.shape, bool)).reshape(*whole.shape, 2)  # a known window matches itself
    field[tuple(queries.T)] = matches
    return values, field


def _enlarge_field(field, queries):
    """Where the coarser level's match lies on this one, for each target; outside without such a level."""
    if field is None:
        return np.full(queries.shape, -1)
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


def search_randomly(
    windows: np.ndarray,
    queries: np.ndarray,
    whole: np.ndarray,
    generator: np.random.Generator,
    *,
    level: int,
    start: np.ndarray,
) -> np.ndarray:
    """PatchMatch's search: good matches spread to neighbours, and are tried to be improved at random.

    Each of min(7, 1 + level) passes looks at the matches of the four neighbours at once, moved by one pixel,
    and at random places around the own match, within a radius that is halved from the image's side to 0.

    Args:
      windows: float32 (h, w, ...), all windows of the image.
      queries: int (T, 2), positions (row, column) of the windows to be matched.
      whole: bool (h, w), the windows that may be matches.
      start: int (T, 2), matches to try first; any that is no possible match is replaced by a random one.
    """
    sources = np.argwhere(whole)
    a = windows[tuple(queries.T)].reshape(len(queries), -1)

    def distance(positions):
        difference = windows[tuple(positions.T)].reshape(len(positions), -1) - a
        return np.einsum("td,td->t", difference, difference)

    matches = sources[generator.integers(len(sources), size=len(queries))]
    best = distance(matches)

    def take_better(candidates, is_there):
        inside = np.clip(candidates, 0, np.array(whole.shape) - 1)
        is_valid = is_there & (inside == candidates).all(axis=1) & whole[tuple(inside.T)]
        found = distance(np.where(is_valid[:, None], inside, matches))
        is_better = is_valid & (found < best)
        matches[is_better], best[is_better] = inside[is_better], found[is_better]

    take_better(start, np.ones(len(queries), bool))
    order = np.full(np.add(whole.shape, 2), -1)  # index of the target at each position, with a border
    order[tuple((queries + 1).T)] = np.arange(len(queries))
    for _ in range(min(7, 1 + level)):
        spread = matches.copy()
        for step in NEIGHBOURS:
            neighbour = order[tuple((queries + 1 + step).T)]
            take_better(spread[neighbour] - step, neighbour >= 0)
        radius = max(whole.shape)
        while radius >= 1:
            moves = generator.integers(-radius, radius + 1, size=matches.shape)
            take_better(matches + moves, np.ones(len(matches), bool))
            radius //= 2
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
