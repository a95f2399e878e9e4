"""Square tiles of a picture, for data whose pictures differ in size."""

import numpy as np


def cut_tiles(image: np.ndarray, side: int) -> np.ndarray:
    """Cuts a picture into as few squares as cover it, evenly spaced, so that neighbours overlap alike.

    Args:
      image: (H, W, C).
      side: of the squares, at most H and W.

    Returns:
      (T, side, side, C), row by row.
    """
    h, w, _ = image.shape
    return np.stack(
        [
            image[top : top + side, left : left + side]
            for top in list_starts(h, side)
            for left in list_starts(w, side)
        ]
    )


def list_starts(length: int, side: int) -> list[int]:
    """Where the pieces of `side` pixels begin along a line of `length`; the last one ends with it."""
    count = -(-length // side)
    return [round(index * (length - side) / max(count - 1, 1)) for index in range(count)]


def interleave(pictures: list[list[np.ndarray]]) -> list[np.ndarray]:
    """One list of many pictures' tiles: the middle one of each, then its neighbours, and so on outwards.

    So the first tiles come from as many pictures as there are.

    Args:
      pictures: the tiles of each picture, as `cut_tiles` orders them.
    """
    outwards = [_middle_first(cut) for cut in pictures]
    longest = max(map(len, outwards), default=0)
    return [cut[turn] for turn in range(longest) for cut in outwards if turn < len(cut)]


def _middle_first(cut):
    middle = len(cut) // 2
    return [cut[index] for index in sorted(range(len(cut)), key=lambda index: abs(index - middle))]
