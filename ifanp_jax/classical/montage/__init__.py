"""Montage: a large hole filled with parts of the picture itself, where a guide says what should be there.

Each missing pixel p gets one of K offsets o and shows the picture y at p + o. The labels l minimise

    E(l) = sum_p U_p(l_p) + sum_{neighbours p, q} V_pq(l_p, l_q)
    U_p(l) = w / 2 mean_c (G y(p + o_l) - G mu(p))^2 / (sigma(p)^2 + tau^2), infinite where y(p + o_l) is
             missing
    V_pq(a, b) = |y(p + o_a) - y(p + o_b)|^2 + |y(q + o_a) - y(q + o_b)|^2
    V_pq(a) = BORDER |y(q + o_a) - y(q)|^2, where q is known: a part goes on from what is seen

mu and sigma are the guide, such as a neural process's mean and standard deviation, and G is a Gaussian blur:
the guide says what is plausible, seams cost what they show. Offsets: `offsets`; moves: `labelling`; the parts
are joined at their gradients: `blending`. Copying by a few offsets: He and Sun (2012) and the shift-map of
Pritch et al. (2009); the guided cost is ours.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ifanp_jax.classical.montage import costs, offsets
from ifanp_jax.classical.montage.blending import blend
from ifanp_jax.classical.montage.costs import BORDER, Guide, Level
from ifanp_jax.classical.montage.labelling import minimise
from ifanp_jax.classical.montage.pixels import Hole, distance, is_known, look

COARSE_PIXELS = 3500  # of all holes together on the coarsest level
MIN_PICTURE_SIDE = 24  # pixels, shortest side of a picture that is halved no further
WEIGHT = 0.1  # w
MIN_SCALE, TOLERANCE = 0.02, 0.03  # least sigma, and tau, in intensities
BLUR = 4.0  # pixels of the coarsest level, of G
SWEEPS = 2
BAND = 3  # pixels on each side of a seam that choose again on a finer level
GONE = 0.5  # cost of a pixel whose part is missing, where parts are moved as a whole
JITTER = np.array([(0, 0), (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])  # pixels


class Montage(NamedTuple):
    """A completed picture."""

    image: np.ndarray  # float32 (H, W, C) in [0, 1], known pixels as they were
    offsets: np.ndarray  # int (H, W, 2), to what each missing pixel shows; 0 where known


def complete(
    image: np.ndarray, known: np.ndarray, guide: np.ndarray, scale: np.ndarray, *, seed: int = 0
) -> Montage | None:
    """Fills the holes of a picture.

    Args:
      image: float32 (H, W, C) in [0, 1]; missing pixels are never read.
      known: bool (H, W), True = observed.
      guide: float32 (H, W, C) in [0, 1], what to expect.
      scale: float32 (H, W), its standard deviation.

    Returns:
      The montage; None where nothing is missing, or too little is known to copy from.
    """
    if known.all():
        return None
    generator = np.random.default_rng(seed)
    levels = _make_levels(np.where(known[..., None], image, guide), known, scale)
    chosen = _label_coarsest(levels[-1], generator)
    if chosen is None:
        return None
    for level in levels[-2::-1]:
        chosen = _refine(level, chosen, generator)
    hole, picture = Hole.of(~known), levels[0].picture
    filled = picture.copy()
    filled[~known] = blend(picture, known, hole, chosen[~known])
    return Montage(filled, chosen)


def _make_levels(picture, known, scale):
    """The picture and its halves, until the holes are small enough; the guide is of the smallest."""
    sizes = [(picture.astype(np.float32), known)]
    while (~sizes[-1][1]).sum() > COARSE_PIXELS and min(sizes[-1][1].shape) >= 2 * MIN_PICTURE_SIDE:
        picture, known = sizes[-1]
        sizes.append((_halve(picture), _halve(known.astype(np.float32)) > 0.999))
        scale = _halve(scale)
    precision = WEIGHT / 2 / (np.maximum(scale, MIN_SCALE) ** 2 + TOLERANCE**2)
    guide = Guide(ndimage.gaussian_filter(sizes[-1][0], (BLUR, BLUR, 0), truncate=3), precision)
    return [Level(*size, guide, len(sizes) - 1 - depth) for depth, size in enumerate(sizes)]


def _halve(values):
    """Means of blocks of 2x2; an odd side is repeated at its end."""
    padding = [(0, values.shape[0] % 2), (0, values.shape[1] % 2)] + [(0, 0)] * (values.ndim - 2)
    values = np.pad(values, padding, mode="edge")
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) / 4


def _label_coarsest(level, generator):
    """Offsets int (H, W, 2) of the coarsest level, all parts free; None where there are none."""
    candidates = offsets.find(level.picture, level.known, generator)
    if not len(candidates):
        return None
    hole = Hole.of(~level.known)
    priced = costs.make(level, hole, candidates)
    labels = minimise(priced, priced.cheapest(), generator, sweeps=SWEEPS)
    if (priced.of_labels(labels) >= costs.FORBIDDEN).any():
        return None
    chosen = np.zeros((*level.known.shape, 2), int)
    chosen[~level.known] = candidates[labels]
    return chosen


def _refine(level, coarse, generator):
    """Offsets of a level from those of the coarser one: parts move by a pixel, seams choose again."""
    height, width = level.known.shape
    doubled = 2 * coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    missing = ~level.known
    hole = Hole.of(missing)
    parts, part_of = np.unique(doubled[missing], axis=0, return_inverse=True)
    part_of = part_of.ravel()
    best, second = _move_parts(level, hole, parts, part_of)
    chosen = np.zeros((height, width, 2), int)
    chosen[missing] = best[part_of]
    # What chooses again: around seams, and where a part is not there on this level.
    is_gone = np.zeros_like(missing)
    is_gone[missing] = ~is_known(level.known, hole.points + chosen[missing])
    band = ndimage.binary_dilation(_find_seams(chosen, missing) | is_gone, iterations=BAND) & missing
    if not band.any():
        return chosen
    candidates, number = np.unique(np.concatenate([best, second]), axis=0, return_inverse=True)
    numbers = number.reshape(2, -1)[:, part_of]  # of the best and the second best, at each missing pixel
    choosing = Hole.of(band)
    near = _find_near(hole.points, numbers, choosing.points, len(candidates))
    priced = costs.make(level, choosing, candidates, chosen=chosen, near=near)
    labels = numbers[0][band[missing]]
    labels = np.where(priced.of_labels(labels) >= costs.FORBIDDEN, priced.cheapest(), labels)
    chosen[band] = candidates[minimise(priced, labels, generator, sweeps=1)]
    return chosen


def _find_near(points, numbers, wanted, count):
    """Which pixels are near to those that have a label, bool (M,) for each of so many labels.

    `points`, int (N, 2), have the labels `numbers`, int (2, N); `wanted` are the pixels int (M, 2).
    """
    reach, near = 2 * BAND, []
    for members in _group(numbers.ravel(), count):
        origin = points[members % len(points)]
        first = origin.min(axis=0) - reach
        here = np.zeros(origin.max(axis=0) + reach + 1 - first, np.uint8)
        here[tuple((origin - first).T)] = 1
        here = ndimage.maximum_filter(here, 2 * reach + 1).view(bool)
        near.append(is_known(here, wanted - first))
    return near


def _move_parts(level, hole, parts, part_of):
    """The best and the second best offset of each part, int (K, 2) each, a pixel or less from its own."""
    picture, points = level.picture, hole.points
    best, second = parts.copy(), parts.copy()
    members = _group(part_of, len(parts))
    borders = _group(part_of[hole.border], len(parts))
    # Each edge between two parts, seen from both of its sides.
    seams = hole.pairs[part_of[hole.pairs[:, 0]] != part_of[hole.pairs[:, 1]]]
    seams = np.concatenate([seams, seams[:, ::-1]])
    sides = _group(part_of[seams[:, 0]], len(parts))
    for part in np.argsort([-len(mine) for mine in members], kind="stable"):
        mine, other = points[seams[sides[part]]].transpose(1, 0, 2)
        their = best[part_of[seams[sides[part], 1]]]
        outside = hole.outside[borders[part]]
        shown = [look(picture, places + their) for places in (mine, other)]
        price = []
        for offset in parts[part] + JITTER:
            cost = GONE * np.count_nonzero(~is_known(level.known, points[members[part]] + offset))
            for places, color in zip((mine, other), shown, strict=True):
                cost += distance(look(picture, places + offset), color).sum()
            cost += BORDER * distance(look(picture, outside + offset), look(picture, outside)).sum()
            price.append(cost)
        order = np.argsort(price, kind="stable")
        best[part], second[part] = parts[part] + JITTER[order[0]], parts[part] + JITTER[order[1]]
    return best, second


def _group(numbers, count):
    """Where each of the first so many numbers stands in int (N,): int (M,), for each of them."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.searchsorted(numbers[order], np.arange(1, count)))


def _find_seams(chosen, missing):
    """Missing pixels beside one of another offset, bool (H, W)."""
    seams = np.zeros_like(missing)
    down = (chosen[1:] != chosen[:-1]).any(axis=-1) & missing[1:] & missing[:-1]
    across = (chosen[:, 1:] != chosen[:, :-1]).any(axis=-1) & missing[:, 1:] & missing[:, :-1]
    seams[1:] |= down
    seams[:-1] |= down
    seams[:, 1:] |= across
    seams[:, :-1] |= across
    return seams
