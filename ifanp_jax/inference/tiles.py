"""Tiles: which parts of a picture are computed, each with so much around it that its answer is the picture's.

A model says by `tile_margin` how far its network looks. A tile is a square of one of a few sides, so that
pictures of all sizes share a few compiled programs. Only its core is used: what lies at least the margin away
from each side of the tile that is not a side of the picture. Tiles begin at multiples of the model's coarsest
cell, as the whole picture does, so the network gives the same answer in both. The kernels' weights beyond a
tile, exp(-distance / length scale), are what is left out.
"""

from typing import NamedTuple

import numpy as np

SIDES = (128, 256, 512)  # pixels; each is one compiled program


class Tile(NamedTuple):
    """A square of a picture and the part of it whose answers are used."""

    top: int  # first row
    left: int  # first column
    side: int  # in pixels; rows and columns beyond the picture are padding
    core: tuple[slice, slice]  # rows and columns of the picture

    def cut(self, values: np.ndarray) -> np.ndarray:
        """The tile's part of (H, W, D), with zeros beyond the picture; (1, side, side, D)."""
        part = values[self.top : self.top + self.side, self.left : self.left + self.side]
        h, w = part.shape[:2]
        if h == w == self.side:
            return part[None]
        return np.pad(part, ((0, self.side - h), (0, self.side - w), (0, 0)))[None]

    def cut_inside(self, size: tuple[int, int]) -> np.ndarray:
        """Which of its pixels are the picture's, of `size` (H, W); bool (1, side, side, 1)."""
        inside = np.zeros((1, self.side, self.side, 1), bool)
        inside[:, : size[0] - self.top, : size[1] - self.left] = True
        return inside

    def cut_core(self, answer: np.ndarray) -> np.ndarray:
        """The core's part of an answer (side, side, ...) for the tile."""
        starts = zip(self.core, (self.top, self.left), strict=True)
        return answer[tuple(slice(part.start - first, part.stop - first) for part, first in starts)]


def find_box(pixels: np.ndarray, *, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns around the True pixels of a bool (H, W), which may be none, and a margin."""
    lines = [np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0)]
    if not len(lines[0]):
        return slice(0, 0), slice(0, 0)
    ends = [(max(0, int(line[0]) - margin), int(line[-1]) + 1 + margin) for line in lines]
    return tuple(slice(start, min(end, n)) for (start, end), n in zip(ends, pixels.shape, strict=True))


def choose(wanted: np.ndarray, *, margin: int, cell: int, sides: tuple[int, ...] = SIDES) -> list[Tile]:
    """Tiles whose cores hold all wanted pixels, of the side that costs least.

    Args:
      wanted: bool (H, W), the pixels to be answered.
      margin: of the model, a multiple of `cell`.
      cell: multiples of it are where tiles begin.
      sides: to choose from, multiples of `cell`. Where all are too small for the margin, one that is not.

    Returns:
      The tiles, row by row; none where nothing is wanted.
    """
    size, box, best = wanted.shape, find_box(wanted), []
    if box[0].stop == 0:
        return []
    for side in (*sides, 4 * margin) if max(sides) <= 2 * margin else sides:
        if side <= 2 * margin and max(size) > side:
            continue
        tiles = _cover(wanted, box, side, margin, cell)
        if not best or len(tiles) * side**2 <= len(best) * best[0].side ** 2:
            best = tiles
    return best


def _cover(wanted, box, side, margin, cell):
    spans = zip(box, wanted.shape, strict=True)
    down, across = (_cover_line(span, length, side, margin, cell) for span, length in spans)
    return [
        Tile(top, left, side, (rows, columns))
        for top, rows in down
        for left, columns in across
        if wanted[rows, columns].any()
    ]


def _cover_line(span, length, side, margin, cell):
    """(start, core) of the tiles along one axis; their cores follow each other through the span."""
    position, end, found = span.start, span.stop, []
    most = max(0, -(-length // cell) * cell - side)  # the last place where a tile begins
    while position < end:
        start = min(max(0, position // cell * cell - margin), most)
        stop = end if start == most else min(end, start + side - margin)
        found.append((start, slice(position, stop)))
        position = stop
    return found
