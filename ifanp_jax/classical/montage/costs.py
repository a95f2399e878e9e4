"""What it costs a missing pixel to show a part of the picture: the terms U and V of the energy."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ifanp_jax.classical.montage.pixels import Hole, distance, is_known, look

FORBIDDEN = 1e3  # cost of a part that is not there
BORDER = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class Guide:
    """What is expected, at the size of the coarsest level.

    Attributes:
      blurred: float32 (h, w, C), G of the picture with the guide in its holes.
      precision: float32 (h, w), w / (2 (sigma^2 + tau^2)).
    """

    blurred: np.ndarray
    precision: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """The picture at one size.

    Attributes:
      picture: float32 (H, W, C), the guide where missing.
      known: bool (H, W).
      guide: of all levels.
      halvings: of this size, to that of the guide.
    """

    picture: np.ndarray
    known: np.ndarray
    guide: Guide
    halvings: int

    def differ(self, points: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """How far a part is from what is expected, float32 (N,): the first term of U."""
        here, there = points >> self.halvings, (points + offset) >> self.halvings
        difference = look(self.guide.blurred, there) - look(self.guide.blurred, here)
        return look(self.guide.precision, here) * np.square(difference).mean(axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Costs:
    """What K labels cost at the N pixels of a hole.

    Attributes:
      picture: float32 (H, W, C).
      hole: the pixels.
      offsets: int (K, 2), from each pixel to what it shows under a label.
      takers: for each label, the pixels that may take it, int (M,), ascending.
      unary: for each label, U of these, float32 (M,).
    """

    picture: np.ndarray
    hole: Hole
    offsets: np.ndarray
    takers: Sequence[np.ndarray]
    unary: Sequence[np.ndarray]

    def of_labels(self, labels: np.ndarray) -> np.ndarray:
        """U, float32 (N,), of int (N,) labels; FORBIDDEN where a pixel may not take its label."""
        own = np.full(len(labels), FORBIDDEN, np.float32)
        for label in np.unique(labels):
            mine = labels[self.takers[label]] == label
            own[self.takers[label][mine]] = self.unary[label][mine]
        return own

    def cheapest(self) -> np.ndarray:
        """The label with the least U, int (N,); the first one where a pixel may take none."""
        labels, least = np.zeros(len(self.hole.points), int), np.full(len(self.hole.points), FORBIDDEN)
        for label, (takers, unary) in enumerate(zip(self.takers, self.unary, strict=True)):
            is_less = unary < least[takers]
            labels[takers[is_less]], least[takers[is_less]] = label, unary[is_less]
        return labels

    def of_pairs(self, label_p, label_q, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """V, float32 (E,): how far two labels differ at both pixels of an edge.

        Labels are int (E,), or one for all edges.
        """
        label_p, label_q = (np.broadcast_to(label, p.shape) for label in (label_p, label_q))
        found = np.zeros(len(p), np.float32)
        seams = np.flatnonzero(label_p != label_q)
        a, b = self.offsets[label_p[seams]], self.offsets[label_q[seams]]
        for ends in (p[seams], q[seams]):
            points = self.hole.points[ends]
            found[seams] += distance(look(self.picture, points + a), look(self.picture, points + b))
        return found

    def energy(self, labels: np.ndarray) -> float:
        """E of int (N,) labels."""
        p, q = self.hole.pairs.T
        seams = self.of_pairs(labels[p], labels[q], p, q).sum(dtype=np.float64)
        return float(self.of_labels(labels).sum(dtype=np.float64) + seams)


def make(
    level: Level,
    hole: Hole,
    offsets: np.ndarray,
    *,
    chosen: np.ndarray | None = None,
    near: Sequence[np.ndarray] | None = None,
) -> Costs:
    """The costs of offsets, int (K, 2), in a hole of a level.

    Args:
      level: the picture.
      hole: pixels of it that choose.
      offsets: what they choose from.
      chosen: int (H, W, 2), the offsets of missing pixels that do not choose; needed where there are some.
      near: for each offset, bool (N,), which pixels may take it; None = all. A pixel with no part left may
        take any.
    """
    whole = np.ones(len(hole.points), bool)
    wanted = [whole] * len(offsets) if near is None else near
    takers = [_find_takers(level, hole, *pair) for pair in zip(offsets, wanted, strict=True)]
    if near is not None:
        lost = whole.copy()
        lost[np.concatenate(takers)] = False
        if lost.any():
            again = [mine | lost for mine in near]
            takers = [_find_takers(level, hole, *pair) for pair in zip(offsets, again, strict=True)]
    unary = [_price(level, hole, offset, mine, chosen) for offset, mine in zip(offsets, takers, strict=True)]
    return Costs(level.picture, hole, offsets, takers, unary)


def _find_takers(level, hole, offset, wanted):
    mine = np.flatnonzero(wanted)
    return mine[is_known(level.known, hole.points[mine] + offset)]


def _price(level, hole, offset, mine, chosen):
    """U of an offset at the pixels numbered `mine`."""
    cost = level.differ(hole.points[mine], offset)
    number = np.full(len(hole.points), -1)
    number[mine] = np.arange(len(mine))
    is_mine = number[hole.border] >= 0
    inside, outside = hole.points[hole.border[is_mine]], hole.outside[is_mine]
    beyond = look(level.picture, outside + offset)
    edge = BORDER * distance(beyond, look(level.picture, outside))
    # A missing pixel outside keeps its part: that is a seam.
    is_fixed = ~look(level.known, outside)
    if is_fixed.any():
        theirs = look(chosen, outside[is_fixed])
        here = look(level.picture, inside[is_fixed] + offset)
        edge[is_fixed] = distance(here, look(level.picture, inside[is_fixed] + theirs))
        edge[is_fixed] += distance(beyond[is_fixed], look(level.picture, outside[is_fixed] + theirs))
    cost += np.bincount(number[hole.border[is_mine]], edge, len(mine)).astype(np.float32)
    return cost
