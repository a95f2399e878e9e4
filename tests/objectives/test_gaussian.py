import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ifanp_jax import objectives
from ifanp_jax.objectives import gaussian

B, H, W = 3, 4, 5


def inputs(channels, *leading):
    generator = np.random.default_rng(0)
    image = generator.random((B, H, W, channels), np.float32)
    mean = generator.random((*leading, *image.shape), np.float32)
    targets = generator.random((B, H, W, 1)) < 0.5
    targets[0] = False
    return image, mean, targets


@pytest.mark.parametrize("leading", [(), (2,)])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_scale_per_image_is_the_normal_at_its_maximum_likelihood(channels, leading):
    image, mean, targets = inputs(channels, *leading)
    result = jax.jit(objectives.per_image_log_prob)(image, mean, jnp.asarray(targets))
    assert result.shape == (*leading, B)
    np.testing.assert_array_equal(result[..., 0], 0)  # nothing is hidden
    for index in np.ndindex(*leading, B):
        kept = np.broadcast_to(targets[index[-1]], image.shape[1:])
        if kept.any():
            error = np.float64(image[index[-1]] - mean[index])[kept]
            at_maximum = stats.norm.logpdf(error, scale=np.sqrt(np.mean(error**2))).sum()
            constant = -0.5 * len(error) * (np.log(2 * np.pi) + 1)
            np.testing.assert_allclose(result[index], at_maximum - constant, rtol=1e-3)


def test_a_perfect_image_stays_finite():
    image, _, targets = inputs(3)
    value, gradient = jax.value_and_grad(
        lambda mean: objectives.per_image_log_prob(image, mean, jnp.asarray(targets)).sum()
    )(jnp.asarray(image))
    np.testing.assert_allclose(value, -0.5 * 3 * targets.sum() * np.log(gaussian.MIN_MSE), rtol=1e-5)
    np.testing.assert_array_equal(gradient, np.zeros_like(image))


@pytest.mark.parametrize("leading", [(), (2,)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_covariance_per_pixel_is_the_multivariate_normal(channels, leading):
    image, mean, targets = inputs(channels, *leading)
    generator = np.random.default_rng(1)
    factor = np.tril(generator.normal(size=(*mean.shape, channels))).astype(np.float32)
    diagonal = np.arange(channels)
    factor[..., diagonal, diagonal] = generator.uniform(0.1, 1, mean.shape)
    result = jax.jit(objectives.cholesky_log_prob)(image, mean, factor, jnp.asarray(targets))
    assert result.shape == (*leading, B)
    expected = np.zeros(result.shape)
    for *front, row, column in np.ndindex(*leading, B, H, W):
        at = (*front, row, column)
        if targets[front[-1], row, column, 0]:
            covariance = np.float64(factor[at]) @ np.float64(factor[at]).T
            normal = stats.multivariate_normal(mean[at], covariance)
            expected[tuple(front)] += normal.logpdf(image[front[-1], row, column])
    np.testing.assert_allclose(result, expected, rtol=1e-3)


def test_independent_channels_agree_with_a_scale_per_value():
    image, mean, targets = inputs(3, 2)
    scale = np.random.default_rng(1).uniform(0.1, 1, mean.shape).astype(np.float32)
    factor = scale[..., None] * np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(
        objectives.cholesky_log_prob(image, mean, factor, jnp.asarray(targets)),
        objectives.gaussian_log_prob(image, mean, scale, jnp.asarray(targets)),
        rtol=1e-5,
    )


def test_wrong_shapes_are_refused():
    image, mean, targets = inputs(3)
    with pytest.raises(AssertionError):
        objectives.per_image_log_prob(image, mean[:2], jnp.asarray(targets))
    with pytest.raises(AssertionError):
        objectives.per_image_log_prob(image, mean, jnp.asarray(targets, jnp.float32))
    with pytest.raises(AssertionError):
        objectives.cholesky_log_prob(image, mean, jnp.ones((*mean.shape, 2)), jnp.asarray(targets))
