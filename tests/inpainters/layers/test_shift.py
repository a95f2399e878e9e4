import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters.layers import shift

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


def box():
    hole = np.zeros((B, H, W, 1), bool)
    hole[:, 1:, 1:4] = True
    return hole


def mixed():
    hole = box()
    hole[0], hole[1] = True, False
    return hole


HOLES = {
    "box": box,
    "mixed": mixed,
    "random": lambda: np.asarray(jax.random.bernoulli(jax.random.key(2), 0.6, (B, H, W, 1))),
}


@pytest.mark.parametrize("kind", HOLES)
def test_values_and_gradients_equal_an_argmax_loop(kind):
    decoder, encoder, cotangent = np.asarray(jax.random.normal(jax.random.key(0), (3, B, H, W, N)))
    hole = HOLES[kind]()
    shifted, pull_back = jax.vjp(lambda f, g: shift.shift(f, g, hole), decoder, encoder)
    by_decoder, by_encoder = pull_back(cotangent)
    expected, sources = loop(decoder.astype(np.float64), encoder.astype(np.float64), hole)
    expected_gradient = np.zeros(encoder.shape)
    for p, q in sources.items():
        expected_gradient[q] += cotangent[p]
    np.testing.assert_array_equal(shifted, expected.astype(np.float32))
    np.testing.assert_allclose(by_encoder, expected_gradient, atol=1e-5)
    np.testing.assert_array_equal(by_decoder, 0)


def test_ties_go_to_the_lowest_index_and_zero_features_are_finite():
    encoder = jnp.arange(4.0).reshape(1, 1, 4, 1)
    hole = jnp.array([True, False, False, False]).reshape(1, 1, 4, 1)
    for value in (1.0, 0.0):
        decoder = jnp.full((1, 1, 4, 1), value)
        assert shift.shift(decoder, encoder, hole)[0, 0, 0, 0] == 1.0
    chex.assert_tree_all_finite(
        jax.grad(lambda f: shift.shift(f, encoder * 0, hole).sum())(jnp.zeros((1, 1, 4, 1)))
    )


def test_jit_and_bfloat16():
    decoder, encoder = jax.random.normal(jax.random.key(0), (2, B, H, W, N))
    hole = box()
    np.testing.assert_array_equal(
        jax.jit(shift.shift)(decoder, encoder, hole), shift.shift(decoder, encoder, hole)
    )
    chex.assert_type(shift.shift(decoder, encoder.astype(jnp.bfloat16), hole), jnp.bfloat16)


def test_a_hole_of_one_pixel_makes_its_cell_a_hole():
    mask = jnp.ones((1, 16, 16, 1), bool).at[0, 5, 9].set(False)
    cells = shift.hole_cells(mask, 4)
    assert np.argwhere(np.asarray(cells)).tolist() == [[0, 1, 2, 0]]
    assert not shift.hole_cells(mask, 4, rule="share").any()


def test_share_rule_equals_three_padded_means():
    mask = np.array(jax.random.bernoulli(jax.random.key(0), 0.5, (2, 32, 32, 1)))
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
