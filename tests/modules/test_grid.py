import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules import grid


@pytest.mark.parametrize(("h", "w"), [(4, 4), (3, 5), (1, 6), (1, 1)])
def test_closed_form(h, w):
    grid = grid.coordinates(h, w)
    chex.assert_shape(grid, (h, w, 2))
    chex.assert_type(grid, jnp.float32)
    expected = [[((i + 0.5) / h * 2 - 1, (j + 0.5) / w * 2 - 1) for j in range(w)] for i in range(h)]
    np.testing.assert_allclose(grid, expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(grid.grid, static_argnums=(0, 1))(h, w), grid, atol=1e-6)


def test_a_coarse_pixel_lies_at_the_mean_of_the_fine_pixels_it_covers():
    coarse, fine = grid.coordinates(4, 6), grid.coordinates(12, 18)
    np.testing.assert_allclose(coarse, fine.reshape(4, 3, 6, 3, 2).mean(axis=(1, 3)), atol=1e-6)
    np.testing.assert_allclose(coarse, fine[1::3, 1::3], atol=1e-6)  # an odd factor keeps the centres


def test_whatever_was_hidden_becomes_zero():
    image = jnp.array([1.0, jnp.nan, jnp.inf, 4.0]).reshape(1, 2, 2, 1)
    mask = jnp.array([True, False, False, True]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(grid.hide_unobserved(image, mask).ravel(), [1, 0, 0, 4])
