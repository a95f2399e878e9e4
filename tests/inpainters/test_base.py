import chex
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters import base
from tests import helpers

IMAGE = np.random.default_rng(0).random((2, 3, 4, 2), np.float32)
MASK = helpers.random_mask(2, 3, 4, 1)


def test_the_hole_is_0_inside_and_marked_even_where_the_image_is_nan():
    hidden = np.where(MASK, IMAGE, np.nan)
    expected = np.where(MASK, 2 * IMAGE - 1, 0)
    np.testing.assert_allclose(base.to_inside(hidden, MASK), expected, atol=1e-6)
    np.testing.assert_allclose(base.with_hole(hidden, MASK)[..., :2], expected, atol=1e-6)
    np.testing.assert_array_equal(base.with_hole(hidden, MASK)[..., 2:], ~MASK)
    with pytest.raises(AssertionError):
        base.to_inside(IMAGE, MASK.astype(np.float32))


def test_from_inside_undoes_to_inside_and_clips():
    inside = base.to_inside(IMAGE, np.ones_like(MASK))
    np.testing.assert_allclose(base.from_inside(inside), IMAGE, atol=1e-6)
    out = base.from_inside(jnp.array([-3.0, -1.0, 0.0, 1.0, 2.0]))
    np.testing.assert_array_equal(out, np.array([0, 0, 0.5, 1, 1], np.float32))
    chex.assert_type(out, jnp.float32)
