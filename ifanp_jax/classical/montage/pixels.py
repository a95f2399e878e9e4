"""Missing pixels, their neighbours, and reading a picture at shifted places."""

import dataclasses

import numpy as np

STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])  # to the neighbours; the first two make each pair


@dataclasses.dataclass(frozen=True, eq=False)
class Hole:
    """Pixels that are to be filled, by number, and the edges of the grid that meet them.

    Attributes:
      points: int (N, 2), row and column of each.
      pairs: int (E, 2), numbers of neighbours that are both to be filled.
      border: int (F,), the number of the pixel at each edge to one that is not.
      outside: int (F, 2), row and column of that other one.
    """

    points: np.ndarray
    pairs: np.ndarray
    border: np.ndarray
    outside: np.ndarray

    @classmethod
    def of(cls, missing: np.ndarray) -> "Hole":
        """The True pixels of a bool (H, W)."""
        points = np.argwhere(missing)
        number = np.full(missing.shape, -1)
        number[missing] = np.arange(len(points))
        pairs, border, outside = [], [], []
        for index, step in enumerate(STEPS):
            beside = points + step
            is_inside = ((beside >= 0) & (beside < missing.shape)).all(axis=1)
            other = np.where(is_inside, look(number, beside), -1)
            if index < 2:
                pairs.append(np.stack([np.flatnonzero(other >= 0), other[other >= 0]], axis=1))
            is_outside = is_inside & (other < 0)
            border.append(np.flatnonzero(is_outside))
            outside.append(beside[is_outside])
        return cls(points, np.concatenate(pairs), np.concatenate(border), np.concatenate(outside))


def look(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """What (H, W, ...) has at int (..., 2) rows and columns; beyond it, what its nearest pixel has."""
    height, width = picture.shape[:2]
    return picture[np.clip(places[..., 0], 0, height - 1), np.clip(places[..., 1], 0, width - 1)]


def is_known(known: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Whether int (..., 2) places lie in the picture and are True in `known`, bool (H, W)."""
    inside = ((places >= 0) & (places < known.shape)).all(axis=-1)
    return inside & look(known, places)


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distance of colours, over the last axis."""
    difference = a - b
    return np.einsum("...c,...c->...", difference, difference)
