import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules import lpa
from tests.oracles import pooling


def reference(x, length_scale):
    """Pools pixel by pixel, with a window cut from the distance of all pairs of positions."""
    _, h, w, _ = x.shape
    offsets = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    alpha = np.array([np.exp(-np.hypot(i, j) / length_scale) for i, j in offsets])  # (9, D)
    alpha /= alpha.sum(axis=0)
    out = np.zeros(x.shape)
    for row, column in np.ndindex(h, w):
        for weight, (i, j) in zip(alpha, offsets, strict=True):
            if 0 <= row + i < h and 0 <= column + j < w:
                out[:, row, column] += weight * x[:, row + i, column + j]
    return out


@pytest.mark.parametrize(("h", "w", "features"), [(4, 4, 1), (3, 5, 3), (1, 6, 2), (1, 1, 2)])
def test_closed_form(h, w, features):
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, h, w, features)))
    out = jax.jit(lpa.LocalPoolingAggregation().apply)({}, x)
    np.testing.assert_allclose(out, reference(x, np.ones(features)), atol=1e-6)


def test_closed_form_with_one_length_scale_per_channel():
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 4, 5, 3)))
    log_scale = np.array([-1.0, 0.0, 0.7], np.float32)
    learned = lpa.LocalPoolingAggregation(learned_scale=True)
    out = jax.jit(learned.apply)({"params": {"log_scale": log_scale}}, x)
    np.testing.assert_allclose(out, reference(x, np.exp(log_scale)), atol=1e-6)


def test_it_is_a_convolution_of_each_channel():
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 4))
    weights = lpa.window_weights(jnp.arange(1.0, 5.0))
    np.testing.assert_allclose(lpa.pool(x, weights), pooling.by_convolution(x, weights), atol=1e-6)


def test_learned_scale_starts_at_the_fixed_window_and_has_a_gradient():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    learned = lpa.LocalPoolingAggregation(learned_scale=True)
    out, variables = jax.jit(learned.init_with_output)(jax.random.key(1), x)
    np.testing.assert_allclose(out, jax.jit(lpa.LocalPoolingAggregation().apply)({}, x), rtol=1e-6)
    loss = jax.jit(jax.grad(lambda v: jnp.square(learned.apply(v, x)).sum()))
    gradient = loss(variables)["params"]["log_scale"]
    chex.assert_shape(gradient, (3,))
    assert np.all(np.isfinite(gradient)) and np.all(gradient != 0)


def test_weights_sum_to_one_and_fall_with_the_distance():
    weights = np.asarray(lpa.window_weights(jnp.array([0.1, 1.0, 30.0])))
    np.testing.assert_allclose(weights.sum(axis=(0, 1)), 1, atol=1e-6)
    centre, side, corner = weights[1, 1], weights[0, 1], weights[0, 0]
    assert np.all(centre > side) and np.all(side > corner)


@pytest.mark.parametrize("size", [(5, 6), (1, 3)])
def test_in_a_sum_over_the_map_only_the_border_counts_less(size):
    x = jax.random.normal(jax.random.key(0), (1, *size, 3))
    log_scale = np.array([-1.0, 0.0, 0.7], np.float32)
    for module, variables in (
        (lpa.LocalPoolingAggregation(), {}),
        (lpa.LocalPoolingAggregation(learned_scale=True), {"params": {"log_scale": log_scale}}),
    ):
        shares = module.apply(variables, *size, 3, method="shares")
        np.testing.assert_allclose(shares[1:-1, 1:-1], 1, rtol=1e-6)
        assert jnp.all(shares[0] < 0.95) and jnp.all(shares[:, -1] < 0.95)
        expected = module.apply(variables, x).sum(axis=(1, 2))
        np.testing.assert_allclose((shares[None] * x).sum(axis=(1, 2)), expected, atol=1e-5)


def test_shares_follow_a_window_that_is_turned():
    weights = jax.random.uniform(jax.random.key(0), (3, 3, 2))
    x = jax.random.normal(jax.random.key(1), (1, 4, 5, 2))

    class Lopsided(lpa.LocalPoolingAggregation):
        def window(self, features):
            return weights

    shares = Lopsided().apply({}, 4, 5, 2, method="shares")
    np.testing.assert_allclose(
        (shares[None] * x).sum(axis=(1, 2)), lpa.pool(x, weights).sum(axis=(1, 2)), rtol=1e-4
    )


def test_bfloat16_stays_and_is_close():
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 2))
    out = jax.jit(lpa.LocalPoolingAggregation().apply)({}, x.astype(jnp.bfloat16))
    chex.assert_type(out, jnp.bfloat16)
    np.testing.assert_allclose(out.astype(jnp.float32), reference(np.asarray(x), np.ones(2)), atol=0.03)
