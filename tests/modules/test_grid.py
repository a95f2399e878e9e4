import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules import grid


@pytest.mark.parametrize(("h", "w"), [(4, 4), (3, 5), (1, 6), (1, 1)])
def test_coordinates_are_the_centres_of_the_pixels(h, w):
    positions = grid.coordinates(h, w)
    chex.assert_shape(positions, (h, w, 2))
    chex.assert_type(positions, jnp.float32)
    expected = [[((i + 0.5) / h * 2 - 1, (j + 0.5) / w * 2 - 1) for j in range(w)] for i in range(h)]
    np.testing.assert_allclose(positions, expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(grid.coordinates, static_argnums=(0, 1))(h, w), positions, atol=1e-6)


def test_a_coarse_pixel_lies_at_the_mean_of_the_fine_pixels_it_covers():
    coarse, fine = grid.coordinates(4, 6), grid.coordinates(12, 18)
    np.testing.assert_allclose(coarse, fine.reshape(4, 3, 6, 3, 2).mean(axis=(1, 3)), atol=1e-6)
    np.testing.assert_allclose(coarse, fine[1::3, 1::3], atol=1e-6)  # an odd factor keeps the centres


def test_what_is_unobserved_is_hidden_whatever_it_holds():
    image = jnp.array([1.0, jnp.nan, jnp.inf, 4.0]).reshape(1, 2, 2, 1)
    mask = jnp.array([True, False, False, True]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(grid.hide_unobserved(image, mask).ravel(), [1, 0, 0, 4])
    with pytest.raises(AssertionError):
        grid.hide_unobserved(image, mask[..., 0])
