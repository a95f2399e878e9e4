import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.study import offset_wheel

colour = jax.jit(offset_wheel.colour_offsets)


def colour_of(dy, dx):
    """Colour of one offset beside the longest one of its image, which is as long."""
    length = np.hypot(dy, dx)
    return colour(jnp.array([[[[dy, dx], [length, 0.0]]]]))[0, 0, 0]


@pytest.mark.parametrize(
    ("dy", "dx", "colour"),
    [
        (1.0, 0.0, [1, 0, 0]),  # down: red
        (1.0, -0.0, [1, 0, 0]),
        (-1.0, 0.0, [0, 0.8, 1]),  # up: cyan, on the way to blue
        (0.0, 1.0, [1, 0.9, 0]),  # right: orange to yellow
        (0.0, -1.0, [0.35, 0, 1]),  # left: blue, on the way to magenta
    ],
)
def test_straight_directions(dy, dx, colour):
    np.testing.assert_allclose(colour_of(dy, dx), colour, atol=0.06)


def test_corners():
    red, green, blue = colour_of(-1.0, 1.0)  # top right: green
    assert green > 0.9 and red < 0.5 and blue < 0.5
    red, green, blue = colour_of(1.0, -1.0)  # bottom left: pink
    assert red > 0.8 and green < 0.1 and blue > 0.7


def test_the_wheel_has_every_corner_at_full_saturation():
    colours = offset_wheel.wheel_colours()
    assert colours.shape == (55, 3)
    places = np.cumsum((0, *offset_wheel.STEPS[:-1]))
    np.testing.assert_array_equal(colours[places], offset_wheel.CORNERS)
    np.testing.assert_array_equal(colours.max(axis=1), 1)
    np.testing.assert_array_equal(colours.min(axis=1), 0)


def test_saturation_is_the_length_over_each_image_s_longest():
    offsets = jnp.zeros((2, 1, 3, 2)).at[0, 0, 1, 0].set(2.0).at[0, 0, 2, 0].set(8.0).at[1, 0, 1, 0].set(2.0)
    colours = colour(offsets)
    np.testing.assert_allclose(colours[0, 0], [[1, 1, 1], [1, 0.75, 0.75], [1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(colours[1, 0], [[1, 1, 1], [1, 0, 0], [1, 1, 1]], atol=1e-6)


def test_no_offset_at_all_is_white():
    np.testing.assert_array_equal(colour(jnp.zeros((1, 2, 2, 2))), jnp.ones((1, 2, 2, 3)))


def test_every_colour_is_one():
    colours = colour(jax.random.normal(jax.random.key(0), (2, 9, 9, 2)))
    assert colours.min() >= 0 and colours.max() <= 1


def test_legend():
    wheel = jax.jit(offset_wheel.draw_wheel, static_argnums=0)(33)
    chex.assert_shape(wheel, (33, 33, 3))
    np.testing.assert_array_equal(wheel[16, 16], 1)  # to itself
    np.testing.assert_array_equal(wheel[0, 0], 1)  # outside
    np.testing.assert_allclose(wheel[32, 16], [1, 0, 0], atol=1e-6)


def test_wrong_shape_raises():
    with pytest.raises(AssertionError):
        offset_wheel.colour_offsets(jnp.zeros((1, 2, 2, 3)))
