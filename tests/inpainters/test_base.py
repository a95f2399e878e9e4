import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters import base

SHAPE = (2, 3, 4, 2)
IMAGE = jax.random.uniform(jax.random.key(0), SHAPE)
MASK = jax.random.bernoulli(jax.random.key(1), 0.5, (*SHAPE[:3], 1))


def test_the_hole_is_0_inside_and_marked_even_where_the_image_is_nan():
    hidden = jnp.where(MASK, IMAGE, jnp.nan)
    expected = np.where(MASK, 2 * IMAGE - 1, 0)
    np.testing.assert_allclose(base.to_inside(hidden, MASK), expected, atol=1e-6)
    np.testing.assert_allclose(
        base.with_hole(hidden, MASK), np.concatenate([expected, ~MASK], axis=-1), atol=1e-6
    )


def test_from_inside_undoes_to_inside_and_clips():
    inside = base.to_inside(IMAGE, jnp.ones_like(MASK))
    np.testing.assert_allclose(base.from_inside(inside), IMAGE, atol=1e-6)
    out = base.from_inside(jnp.array([-3.0, -1.0, 0.0, 1.0, 2.0], jnp.bfloat16))
    np.testing.assert_array_equal(out, np.array([0, 0, 0.5, 1, 1], np.float32))
    chex.assert_type(out, jnp.float32)


def test_composite_keeps_what_is_observed():
    whole = base.composite(jnp.where(MASK, IMAGE, jnp.nan), MASK, jnp.full_like(IMAGE, 7.0))
    np.testing.assert_array_equal(whole, np.where(MASK, IMAGE, 7))


def test_a_mask_of_numbers_is_refused():
    numbers = MASK.astype(jnp.float32)
    for call in (lambda: base.to_inside(IMAGE, numbers), lambda: base.composite(IMAGE, numbers, IMAGE)):
        with pytest.raises(AssertionError):
            call()
