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
    """A square of a picture and the part of it whose answers are used.

    Attributes:
      top: first row.
      left: first column.
      side: in pixels; rows and columns beyond the picture are padding.
      core: rows and columns of the picture, as slices.
    """

    top: int
    left: int
    side: int
    core: tuple[slice, slice]

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
        rows, columns = self.core
        return answer[
            rows.start - self.top : rows.stop - self.top, columns.start - self.left : columns.stop - self.left
        ]


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
    size = wanted.shape
    rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    if len(rows) == 0:
        return []
    spans = [(int(line[0]), int(line[-1]) + 1) for line in (rows, columns)]
    best = []
    for side in (*sides, 4 * margin) if max(sides) <= 2 * margin else sides:
        if side <= 2 * margin and max(size) > side:
            continue
        tiles = _cover(wanted, spans, side, margin, cell)
        if not best or len(tiles) * side**2 <= len(best) * best[0].side ** 2:
            best = tiles
    return best


def _cover(wanted, spans, side, margin, cell):
    tiles = []
    lines = [
        _cover_line(span, length, side, margin, cell)
        for span, length in zip(spans, wanted.shape, strict=True)
    ]
    for top, rows in lines[0]:
        for left, columns in lines[1]:
            if wanted[rows, columns].any():
                tiles.append(Tile(top, left, side, (rows, columns)))
    return tiles


def _cover_line(span, length, side, margin, cell):
    """(start, core) of the tiles along one axis; their cores follow each other through the span."""
    first, end = span
    most = max(0, -(-length // cell) * cell - side)  # the last place where a tile begins
    found, position = [], first
    while position < end:
        start = min(max(0, position // cell * cell - margin), most)
        stop = end if start == most else min(end, start + side - margin)
        found.append((start, slice(position, stop)))
        position = stop
    return found
