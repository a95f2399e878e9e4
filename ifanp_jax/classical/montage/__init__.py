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

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ifanp_jax.classical.montage import offsets as offset_search
from ifanp_jax.classical.montage.blending import blend
from ifanp_jax.classical.montage.labelling import FORBIDDEN, Costs, minimise
from ifanp_jax.classical.montage.pixels import Hole, distance, is_known, look

COARSE_PIXELS = 3500  # of all holes together on the coarsest level
MIN_PICTURE_SIDE = 24  # pixels, shortest side of a picture that is halved no further
WEIGHT = 0.1  # w
MIN_SCALE, TOLERANCE = 0.02, 0.03  # least sigma, and tau, in intensities
BLUR = 4.0  # pixels of the coarsest level, of G
BORDER = 2.0
SWEEPS = 2
BAND = 3  # pixels on each side of a seam that choose again on a finer level
GONE = 0.5  # cost of a pixel whose part is missing, where parts are moved as a whole
JITTER = np.array([(0, 0), (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])  # pixels


class Montage(NamedTuple):
    """A completed picture."""

    image: np.ndarray  # float32 (H, W, C) in [0, 1], known pixels as they were
    offsets: np.ndarray  # int (H, W, 2), to what each missing pixel shows; 0 where known


@dataclasses.dataclass(frozen=True, eq=False)
class _Level:
    """The picture at one size."""

    picture: np.ndarray  # float32 (H, W, C), the guide where missing
    known: np.ndarray  # bool (H, W)
    blurred: np.ndarray  # float32 (H, W, C), G of it
    precision: np.ndarray  # float32 (H, W), w / (2 (sigma^2 + tau^2))


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
    """The picture and its halves, until the holes are small enough."""
    sizes = [(picture.astype(np.float32), known, scale)]
    while (~sizes[-1][1]).sum() > COARSE_PIXELS and min(sizes[-1][1].shape) >= 2 * MIN_PICTURE_SIDE:
        picture, known, scale = sizes[-1]
        sizes.append((_halve(picture), _halve(known.astype(np.float32)) > 0.999, _halve(scale)))
    levels = []
    for depth, (picture, known, scale) in enumerate(sizes):
        blur = BLUR * 2 ** (len(sizes) - 1 - depth)
        precision = WEIGHT / 2 / (np.maximum(scale, MIN_SCALE) ** 2 + TOLERANCE**2)
        blurred = ndimage.gaussian_filter(picture, (blur, blur, 0), truncate=3)
        levels.append(_Level(picture, known, blurred, precision))
    return levels


def _halve(values):
    """Means of blocks of 2x2; an odd side is repeated at its end."""
    padding = [(0, values.shape[0] % 2), (0, values.shape[1] % 2)] + [(0, 0)] * (values.ndim - 2)
    values = np.pad(values, padding, mode="edge")
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) / 4


def _label_coarsest(level, generator):
    """Offsets int (H, W, 2) of the coarsest level, all parts free; None where there are none."""
    candidates = offset_search.find(level.picture, level.known, generator)
    if not len(candidates):
        return None
    hole = Hole.of(~level.known)
    costs = _make_costs(level, hole, candidates)
    labels = minimise(costs, costs.unary.argmin(axis=0), generator, sweeps=SWEEPS)
    if (costs.unary[labels, np.arange(len(labels))] >= FORBIDDEN).any():
        return None
    chosen = np.zeros((*level.known.shape, 2), int)
    chosen[~level.known] = candidates[labels]
    return chosen


def _make_costs(level, hole, candidates, chosen=None):
    """The costs of candidates, int (K, 2); `chosen` has the offsets of missing pixels that are fixed."""
    points, (inner, outer) = hole.points, (hole.border, hole.outside)
    is_fixed = ~look(level.known, outer)
    colors, unary = [], []
    for offset in candidates:
        color, at_outer = look(level.picture, points + offset), look(level.picture, outer + offset)
        difference = look(level.blurred, points + offset) - look(level.blurred, points)
        cost = look(level.precision, points) * np.square(difference).mean(axis=-1)
        # Towards the border: known pixels, and missing ones that keep their part.
        edge = BORDER * distance(at_outer, look(level.picture, outer))
        if is_fixed.any():
            beside, inside = outer[is_fixed], points[inner[is_fixed]]
            theirs = look(chosen, beside)
            edge[is_fixed] = distance(color[inner[is_fixed]], look(level.picture, inside + theirs))
            edge[is_fixed] += distance(at_outer[is_fixed], look(level.picture, beside + theirs))
        cost = cost + np.bincount(inner, edge, len(points))
        unary.append(np.where(is_known(level.known, points + offset), cost, FORBIDDEN))
        colors.append(color)
    return Costs(hole, np.stack(colors), np.stack(unary).astype(np.float32))


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
    costs = _make_costs(level, Hole.of(band), candidates, chosen)
    numbers = number.reshape(2, -1)[:, part_of]  # of the best and the second best, at each missing pixel
    costs, labels = _keep_near(costs, numbers, missing, band), numbers[0, band[missing]]
    is_forbidden = costs.unary[labels, np.arange(len(labels))] >= FORBIDDEN
    labels = np.where(is_forbidden, costs.unary.argmin(axis=0), labels)
    chosen[band] = candidates[minimise(costs, labels, generator, sweeps=1)]
    return chosen


def _keep_near(costs, numbers, missing, band):
    """The costs of a band, where no label is taken far from the pixels that it comes from.

    `numbers`, int (2, N), are the labels of the best and second best offsets of all missing pixels.
    """
    (box,) = ndimage.find_objects(missing.astype(np.uint8))
    unary, origin = costs.unary.copy(), np.zeros_like(missing)
    for label in range(len(unary)):
        origin[missing] = (numbers == label).any(axis=0)
        near = ndimage.maximum_filter(origin[box].view(np.uint8), 4 * BAND + 1).view(bool)
        unary[label, ~near[band[box]]] = FORBIDDEN
    is_lost = (unary >= FORBIDDEN).all(axis=0)
    return dataclasses.replace(costs, unary=np.where(is_lost, costs.unary, unary))


def _move_parts(level, hole, parts, part_of):
    """The best and the second best offset of each part, int (K, 2) each, a pixel or less from its own."""
    p, q = hole.pairs.T
    points, picture = hole.points, level.picture
    best, second = parts.copy(), parts.copy()
    for part in np.argsort(-np.bincount(part_of), kind="stable"):
        is_mine = part_of == part
        seam = is_mine[p] != is_mine[q]
        mine = points[np.where(is_mine[p[seam]], p[seam], q[seam])]
        other_number = np.where(is_mine[p[seam]], q[seam], p[seam])
        other, their = points[other_number], best[part_of[other_number]]
        outside = hole.outside[is_mine[hole.border]]
        shown = [look(picture, places + their) for places in (mine, other)]
        costs = []
        for offset in parts[part] + JITTER:
            cost = GONE * np.count_nonzero(~is_known(level.known, points[is_mine] + offset))
            for places, color in zip((mine, other), shown, strict=True):
                cost += distance(look(picture, places + offset), color).sum()
            cost += BORDER * distance(look(picture, outside + offset), look(picture, outside)).sum()
            costs.append(cost)
        order = np.argsort(costs, kind="stable")
        best[part], second[part] = parts[part] + JITTER[order[0]], parts[part] + JITTER[order[1]]
    return best, second


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
