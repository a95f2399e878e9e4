"""Student's t with 4 degrees of freedom against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ifanp_jax import objectives
from ifanp_jax.objectives import student_t


def inputs(channels):
    generator = np.random.default_rng(0)
    image = generator.random((2, 3, 4, channels), np.float32)
    mean = generator.random((2, *image.shape), np.float32)
    return image, mean, generator.random((2, 3, 4, 1)) < 0.6


def test_independent_values_are_those_of_scipy():
    image, mean, targets = inputs(3)
    scale = np.random.default_rng(1).uniform(0.1, 1, mean.shape).astype(np.float32)
    result = jax.jit(objectives.student_t_log_prob)(image, mean, scale, jnp.asarray(targets))
    each = stats.t.logpdf(image[None], 4, mean, scale / np.sqrt(2))
    expected = np.where(targets[None], each, 0).sum(axis=(-3, -2, -1))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_covariance_per_pixel_is_the_multivariate_t(channels):
    image, mean, targets = inputs(channels)
    generator = np.random.default_rng(1)
    factor = np.tril(generator.normal(size=(*mean.shape, channels))).astype(np.float32)
    factor[..., np.arange(channels), np.arange(channels)] = generator.uniform(0.2, 1, mean.shape)
    result = objectives.cholesky_log_prob(image, mean, factor, jnp.asarray(targets), distribution="student_t")
    expected = np.zeros(result.shape)
    for s, b, row, column in np.ndindex(2, 2, 3, 4):
        at = (s, b, row, column)
        if targets[b, row, column, 0]:
            shape = np.float64(factor[at]) @ np.float64(factor[at]).T / 2  # (v - 2) / v of the covariance
            density = stats.multivariate_t(mean[at], shape, df=4)
            expected[s, b] += density.logpdf(image[b, row, column])
    np.testing.assert_allclose(result, expected, rtol=1e-3)


def test_the_core_is_the_normal_with_the_same_quartiles():
    deviation = stats.t.std(4)
    np.testing.assert_allclose(
        student_t.CORE_SCALE * deviation * stats.norm.ppf(0.75), stats.t.ppf(0.75, 4), rtol=1e-5
    )
