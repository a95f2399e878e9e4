import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters.layers import shift
from tests import helpers

B, H, W, N = 3, 3, 5, 4


def loop(decoder, encoder, hole):
    """S, and for each filled cell the cell it comes from."""
    shifted, sources = np.zeros(encoder.shape), {}
    for image, cells in enumerate(hole[..., 0]):
        known = [tuple(q) for q in np.argwhere(~cells)]
        for p in map(tuple, np.argwhere(cells)):
            if known:
                f = decoder[image][p]
                cosines = [
                    f @ encoder[image][q] / (np.linalg.norm(f) * np.linalg.norm(encoder[image][q]) + 1e-8)
                    for q in known
                ]
                sources[image, *p] = (image, *known[int(np.argmax(cosines))])
                shifted[image, *p] = encoder[sources[image, *p]]
    return shifted, sources


def draw_holes():
    """A box; everything, nothing and a box; random cells."""
    box = np.zeros((B, H, W, 1), bool)
    box[:, 1:, 1:4] = True
    mixed = box.copy()
    mixed[0], mixed[1] = True, False
    return box, mixed, ~helpers.random_mask(B, H, W, 1)


@jax.jit
def pull_back(decoder, encoder, hole, cotangent):
    shifted, vjp = jax.vjp(lambda f, g: shift.shift(f, g, hole), decoder, encoder)
    return shifted, vjp(cotangent)


def test_values_and_gradients_equal_an_argmax_loop():
    maps = np.random.default_rng(0).normal(size=(3, B, H, W, N))
    decoder, encoder, cotangent = maps.astype(np.float32)
    for hole in draw_holes():
        shifted, (by_decoder, by_encoder) = pull_back(decoder, encoder, hole, cotangent)
        expected, sources = loop(np.float64(decoder), np.float64(encoder), hole)
        expected_gradient = np.zeros(encoder.shape)
        for p, q in sources.items():
            expected_gradient[q] += cotangent[p]
        np.testing.assert_array_equal(shifted, expected.astype(np.float32))
        np.testing.assert_allclose(by_encoder, expected_gradient, atol=1e-5)
        np.testing.assert_array_equal(by_decoder, 0)


def test_ties_go_to_the_lowest_index_and_zero_features_are_finite():
    encoder = np.broadcast_to(np.arange(W, dtype=np.float32)[:, None], (B, H, W, N))
    hole = np.zeros((B, H, W, 1), bool)
    hole[:, :, 0] = True
    for value in (1.0, 0.0):
        shifted, _ = pull_back(np.full_like(encoder, value), encoder, hole, encoder)
        np.testing.assert_array_equal(shifted[:, :, 0], 1.0)
    chex.assert_tree_all_finite(pull_back(0 * encoder, 0 * encoder, hole, encoder))
    half = jax.eval_shape(shift.shift, encoder, jnp.asarray(encoder, jnp.bfloat16), hole)
    assert half.dtype == jnp.bfloat16


def test_a_hole_of_one_pixel_makes_its_cell_a_hole():
    mask = np.ones((1, 16, 16, 1), bool)
    mask[0, 5, 9] = False
    cells = shift.hole_cells(mask, 4)
    assert np.argwhere(np.asarray(cells)).tolist() == [[0, 1, 2, 0]]
    assert not shift.hole_cells(mask, 4, rule="share").any()


def test_share_rule_equals_three_padded_means():
    mask = helpers.random_mask(2, 32, 32, 1)
    mask[0, 8:24, 8:24] = False
    share = (~mask[..., 0]).astype(np.float64)
    for _ in range(3):
        padded = np.pad(share, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(1, 2))
        share = windows[:, ::2, ::2].mean(axis=(3, 4))
    cells = np.asarray(shift.hole_cells(mask, 8, rule="share"))[..., 0]
    np.testing.assert_array_equal(cells, share > 5 / 16)
    assert 0 < cells.sum() < cells.size


def test_a_hole_of_numbers_is_refused():
    with pytest.raises(AssertionError):
        shift.shift(jnp.ones((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1)))
