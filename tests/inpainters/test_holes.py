import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters import holes

H, W = 32, 48
HOLES_AND_WINDOWS = [  # rows and columns of a hole, top and left of its window
    ((0, 2, 0, 2), (0, 0)),  # each corner, clamped
    ((0, 2, 46, 48), (0, 24)),
    ((30, 32, 0, 2), (16, 0)),
    ((30, 32, 46, 48), (16, 24)),
    ((13, 14, 20, 21), (5, 8)),  # one pixel
    ((8, 24, 12, 36), (8, 12)),  # exactly the window
    ((9, 23, 12, 36), (8, 12)),  # without bands at top and bottom
    ((0, 32, 0, 48), (8, 12)),  # everything
    ((0, 0, 0, 0), (8, 12)),  # nothing
]


def test_the_window_is_centred_on_each_image_s_hole():
    mask = np.ones((len(HOLES_AND_WINDOWS), H, W, 1), bool)
    for image, ((top, bottom, left, right), _) in enumerate(HOLES_AND_WINDOWS):
        mask[image, top:bottom, left:right] = False
    found = jax.jit(holes.window_start)(mask)
    chex.assert_type(found, jnp.int32)
    np.testing.assert_array_equal(found, [window for _, window in HOLES_AND_WINDOWS])


def test_windows_are_drawn_over_the_whole_image():
    start = np.asarray(holes.draw_window_start(jax.random.key(0), (2000, 8, 12)))
    assert set(start[:, 0].tolist()) == set(range(5)) and set(start[:, 1].tolist()) == set(range(7))
    assert len(np.unique(start, axis=0)) == 5 * 7


def test_windows_are_each_image_s_own_and_pass_gradients_to_it():
    x = jnp.arange(2 * 5 * 6, dtype=jnp.float32).reshape(2, 5, 6, 1)
    start = jnp.array([[0, 3], [3, 1]])
    windows = jax.jit(holes.cut_window)(x, start)
    np.testing.assert_array_equal(windows[0], x[0, 0:2, 3:6])
    np.testing.assert_array_equal(windows[1], x[1, 3:5, 1:4])
    gradient = jax.jit(jax.grad(lambda x: holes.cut_window(x, start).sum()))(x)
    expected = np.zeros(x.shape)
    expected[0, 0:2, 3:6] = expected[1, 3:5, 1:4] = 1
    np.testing.assert_array_equal(gradient, expected)


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(AssertionError):
        holes.window_start(jnp.ones((1, 4, 4, 1)))
