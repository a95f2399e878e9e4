"""Contexts that are the same for every model."""

import numpy as np

from ifanp_jax.evaluation.cells import draw_contexts, list_cells
from tests import tiny

HALVES = [(side, 0.5) for side in ("top", "bottom", "left", "right")]


def test_cells_are_those_of_the_configuration():
    config = tiny.make_config(**{"evaluate.fractions": (0.2, 0.6), "evaluate.uniform_fraction": 0.3}).evaluate
    assert list_cells(config) == [("random", 0.2), ("random", 0.6), ("uniform", 0.3), *HALVES]
    config.halves, config.uniform_fraction = False, 0.0
    assert list_cells(config) == [("random", 0.2), ("random", 0.6)]


def test_contexts_do_not_depend_on_the_number_of_images():
    few = draw_contexts(0, "random", 0.4, (3, 8, 8))
    many = draw_contexts(0, "random", 0.4, (7, 8, 8))
    np.testing.assert_array_equal(few, many[:3])
    assert (many.sum(axis=(1, 2, 3)) == round(0.4 * 64)).all()
    assert (draw_contexts(1, "random", 0.4, (3, 8, 8)) != few).any()
    assert (many[0] != many[1]).any()


def test_every_image_of_a_uniform_cell_has_a_share_of_its_own():
    counts = draw_contexts(0, "uniform", 0.3, (400, 8, 8)).sum(axis=(1, 2, 3))
    assert counts.min() == 0 and counts.max() == 19  # round(0.3 * 64)
    assert abs(counts.mean() - 9.5) < 1


def test_half_a_picture_is_observed():
    top, left = (draw_contexts(0, side, 0.5, (2, 8, 6))[..., 0] for side in ("top", "left"))
    assert top[:, :4].all() and not top[:, 4:].any()
    assert left[:, :, :3].all() and not left[:, :, 3:].any()
