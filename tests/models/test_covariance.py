"""The covariance of a pixel's channels."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax import objectives
from ifanp_jax.models import heads
from ifanp_jax.models.base import Completion


def draw(channels, shape, seed=0):
    """Diagonals and regressions."""
    diagonal_key, regression_key = jax.random.split(jax.random.key(seed))
    diagonal = 0.01 + jax.nn.softplus(jax.random.normal(diagonal_key, (*shape, channels)))
    return diagonal, jax.random.normal(regression_key, (*shape, channels * (channels - 1) // 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_factor_is_that_of_the_regression(channels):
    diagonal, entries = draw(channels, (2, 4))
    factor = heads.cholesky_factor(diagonal, entries)
    chex.assert_shape(factor, (2, 4, channels, channels))
    np.testing.assert_array_equal(factor, np.tril(factor))
    np.testing.assert_allclose(np.diagonal(factor, axis1=-2, axis2=-1), diagonal, rtol=1e-6)
    regression = np.zeros((2, 4, channels, channels))
    regression[..., *np.tril_indices(channels, -1)] = entries
    expected = np.linalg.inv(np.eye(channels) - regression) @ (
        np.asarray(diagonal)[..., None] * np.eye(channels)
    )
    np.testing.assert_allclose(factor, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_floor_raises_the_deviations_and_keeps_the_regression(channels):
    diagonal, entries = draw(channels, (1, 2, 3, 4))
    floor = float(np.median(diagonal))
    factor = heads.cholesky_factor(diagonal, entries)
    mean, scale = jnp.zeros(factor.shape[:-1]), jnp.sqrt(jnp.sum(jnp.square(factor), axis=-1))
    answer = Completion(samples=mean, scale=scale, cholesky=factor)
    raised = heads.raise_floor(answer, floor)
    expected = heads.cholesky_factor(jnp.maximum(diagonal, floor), entries)
    np.testing.assert_allclose(raised.cholesky, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(raised.scale, np.sqrt(np.square(expected).sum(axis=-1)), rtol=1e-5)
    assert heads.raise_floor(answer, 0.0) is answer


@pytest.mark.parametrize("channels", [1, 3])
def test_density_equals_that_of_the_full_matrix(channels):
    factor = heads.cholesky_factor(*draw(channels, (1, 2, 3, 4)))
    image = jax.random.uniform(jax.random.key(1), (2, 3, 4, channels))
    mean, targets = jnp.full((1, *image.shape), 0.5), jnp.ones((2, 3, 4, 1), bool)
    log_prob = objectives.cholesky_log_prob(image, mean, factor, targets)[0]
    errors = np.asarray(image - 0.5, np.float64)
    for b in range(2):
        expected = 0.0
        for i, j in np.ndindex(3, 4):
            lower = np.asarray(factor[0, b, i, j], np.float64)
            full, error = lower @ lower.T, errors[b, i, j]
            expected -= 0.5 * (error @ np.linalg.solve(full, error) + np.linalg.slogdet(2 * np.pi * full)[1])
        np.testing.assert_allclose(log_prob[b], expected, rtol=1e-4)
