"""Which parts of a picture are computed."""

import numpy as np

from ifanp_jax.inference import tiles
from tests.helpers import random_mask

MARGIN, CELL = 8, 4


def check(found, wanted):
    """The cores hold every wanted pixel once, with enough around them."""
    count = np.zeros(wanted.shape, int)
    for tile in found:
        rows, columns = tile.core
        count[rows, columns] += 1
        assert tile.top % CELL == tile.left % CELL == 0
        for start, core, length in ((tile.top, rows, wanted.shape[0]), (tile.left, columns, wanted.shape[1])):
            assert start == 0 or core.start - start >= MARGIN
            assert start + tile.side >= length or start + tile.side - core.stop >= MARGIN
    assert count.max() <= 1 and (count[wanted] == 1).all()


def test_every_wanted_pixel_is_in_one_core():
    for size in ((3, 5), (32, 32), (33, 64), (100, 47), (61, 200)):
        for sides in ((32,), (16, 32, 64)):
            wanted = random_mask(*size)
            check(tiles.choose(wanted, margin=MARGIN, cell=CELL, sides=sides), wanted)


def test_only_where_something_is_wanted():
    wanted = np.zeros((400, 500), bool)
    assert tiles.choose(wanted, margin=MARGIN, cell=CELL) == []
    wanted[37:60, 90:99] = wanted[300, 400] = True
    found = tiles.choose(wanted, margin=MARGIN, cell=CELL, sides=(32, 64))
    check(found, wanted)
    assert len(found) <= 5
    wanted[300, 400] = False
    (tile,) = tiles.choose(wanted, margin=MARGIN, cell=CELL, sides=(64, 256))
    assert tile.side == 64


def test_the_cheapest_side_is_taken():
    wanted = np.ones((250, 250), bool)
    (tile,) = tiles.choose(wanted, margin=64, cell=8)
    assert tile.side == 256
    wanted = np.ones((1000, 1000), bool)
    assert {tile.side for tile in tiles.choose(wanted, margin=64, cell=8)} == {512}


def test_a_margin_that_no_side_holds_gets_a_larger_one():
    wanted = np.ones((300, 90), bool)
    found = tiles.choose(wanted, margin=64, cell=8, sides=(128,))
    assert {tile.side for tile in found} == {256}


def test_a_side_of_twice_the_margin_holds_a_picture_of_its_size_and_no_larger_one():
    (tile,) = tiles.choose(np.ones((16, 16), bool), margin=MARGIN, cell=CELL, sides=(16, 32))
    assert tile.side == 2 * MARGIN == 16
    wanted = np.ones((100, 47), bool)
    check(tiles.choose(wanted, margin=MARGIN, cell=CELL, sides=(16,)), wanted)


def test_what_lies_beyond_the_picture_is_zero():
    tile = tiles.Tile(top=2, left=0, side=4, core=(slice(2, 4), slice(0, 3)))
    values = np.arange(12).reshape(4, 3, 1) + 1
    cut = tile.cut(values)
    np.testing.assert_array_equal(cut[0, :2, :3], values[2:])
    assert cut.shape == (1, 4, 4, 1) and cut.sum() == values[2:].sum()
    np.testing.assert_array_equal(tile.cut_inside((4, 3)), cut > 0)
    np.testing.assert_array_equal(tile.cut_core(cut[0]), values[2:])
