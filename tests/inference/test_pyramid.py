"""The picture at several sizes."""

import numpy as np
import pytest

from ifanp_jax.inference import pyramid
from tests.helpers import random_image, random_mask


def deep_hole(height, width, side, top=20, left=20):
    known = np.ones((height, width), bool)
    known[top : top + side, left : left + side] = False
    return known


def test_the_depth_is_the_distance_to_the_nearest_known_pixel():
    known = deep_hole(50, 60, 11)
    depth = pyramid.measure_depth(known)
    assert depth.max() == depth[25, 25] == 6 and depth[20, 23] == 1 and (depth[known] == 0).all()
    assert pyramid.measure_depth(np.ones((4, 5), bool)).max() == 0
    assert pyramid.measure_depth(np.zeros((4, 5), bool)).max() == 0
    known = np.zeros((4, 9), bool)
    known[:, 0] = True
    np.testing.assert_array_equal(pyramid.measure_depth(known)[2], np.arange(9))


def test_depths_beyond_a_distance_are_never_missed():
    generator, shortened = np.random.default_rng(0), 0
    for share in np.repeat((0.05, 0.1, 0.5), 40):
        known = generator.random((31, 26)) < share
        exact = pyramid.measure_depth(known)
        for beyond in (1.0, 2.5, 14.0):
            found = pyramid.measure_depth(known, beyond=beyond)
            if exact.max() > beyond:
                np.testing.assert_array_equal(found, exact)
            shortened += exact.any() and not found.any()
    assert shortened


def test_the_distance_along_a_diagonal_counts():
    known = np.zeros((18, 18), bool)
    known[::17, ::17] = True  # each square of side 9 has a known corner
    exact = pyramid.measure_depth(known)
    assert exact.max() == pytest.approx(np.hypot(8, 8))
    np.testing.assert_array_equal(pyramid.measure_depth(known, beyond=8.0), exact)


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_a_half_has_the_means_of_what_is_known(size):
    image, known = random_image(*size, 3) / np.float32(255), random_mask(*size)
    image = np.where(known[..., None], image, 0)
    small, small_known = pyramid.halve(image, known)
    assert small.shape == (4, 3, 3)
    block = known[2:4, 2:4]
    np.testing.assert_allclose(small[1, 1], image[2:4, 2:4][block].mean(axis=0), rtol=1e-5)
    assert small_known[1, 1] == block.any()
    assert pyramid.enlarge(small, size).shape == (*size, 3)


def test_enlarging_keeps_a_ramp_in_its_place():
    ramp = np.broadcast_to(np.arange(16, dtype=np.float32)[:, None, None], (16, 8, 1))
    small, _ = pyramid.halve(ramp, np.ones((16, 8), bool))
    np.testing.assert_allclose(pyramid.enlarge(small, (16, 8))[1:-1], ramp[1:-1], atol=1e-5)


def test_levels_go_on_until_no_pixel_is_too_deep():
    known = deep_hole(200, 180, 100)
    image = random_image(200, 180, 3) / np.float32(255)
    found = pyramid.make_levels(image, known, pyramid.measure_depth(known), 16.0)
    assert [level.known.shape for level in found] == [(200, 180), (100, 90), (50, 45)]
    assert pyramid.measure_depth(found[-1].known).max() <= 16 and found[-1].guide is None
    first = found[0]
    assert first.guide.any() and not (first.guide & known).any()
    assert pyramid.measure_depth(known)[first.guide].min() > 4  # none beside what is known
    for weight in (first.weight, first.share):
        assert weight.min() == 0 and weight.max() == 1 and (weight[known] == 0).all()


def test_nothing_known_and_nothing_deep_need_one_level():
    image = np.zeros((64, 64, 1), np.float32)
    for known in (np.zeros((64, 64), bool), np.ones((64, 64), bool), random_mask(64, 64)):
        assert len(pyramid.make_levels(image, known, pyramid.measure_depth(known), 8.0)) == 1
