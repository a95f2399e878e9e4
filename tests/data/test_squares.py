"""Tiles of a picture."""

import numpy as np
import pytest

from ifanp_jax.data import squares


@pytest.mark.parametrize(("length", "side"), [(8, 8), (9, 8), (16, 8), (17, 8), (481, 128)])
def test_pieces_cover_the_line_from_end_to_end(length, side):
    starts = squares.list_starts(length, side)
    assert len(starts) == -(-length // side)
    assert starts[0] == 0 and starts[-1] == length - side
    steps = np.diff(starts)
    assert len(steps) == 0 or (steps.max() <= side and steps.max() - steps.min() <= 1)


def test_tiles_are_the_parts_of_the_picture():
    image = np.arange(5 * 9 * 3).reshape(5, 9, 3)
    cut = squares.cut_tiles(image, 4)
    assert cut.shape == (6, 4, 4, 3)
    expected = [image[top : top + 4, left : left + 4] for top in (0, 1) for left in (0, 2, 5)]
    np.testing.assert_array_equal(cut, expected)


def test_interleaved_tiles_begin_with_the_middle_of_every_picture():
    pictures = [list("abc"), list("d"), list("efgh")]
    interleaved = squares.interleave(pictures)
    assert interleaved[:3] == ["b", "d", "g"]
    assert sorted(interleaved) == list("abcdefgh")
    assert squares.interleave([]) == []
