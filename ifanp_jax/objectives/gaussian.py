"""Log-likelihoods with a scale of their own: one per image, or a covariance per pixel. In nats."""

import math

import chex
import jax
import jax.numpy as jnp

from ifanp_jax.objectives import student_t

LOG_2PI = math.log(2 * math.pi)
MIN_MSE = 1e-5  # under the logarithm: -50 dB, about the error of rounding to 256 levels


def per_image_log_prob(image: jax.Array, mean: jax.Array, targets: jax.Array) -> jax.Array:
    """-n/2 log(MSE + 1e-5), n values: a Gaussian whose one scale per image is at its maximum likelihood.

    Up to a constant; it is the PSNR over the targets, up to a factor.

    Args:
      image: float (B, H, W, C).
      mean: float, the shape of `image`, or that with leading sample axes.
      targets: bool (B, H, W, 1), the pixels that count.

    Returns:
      float32 (..., B): the leading axes of `mean`; 0 for an image without targets.
    """
    chex.assert_shape(mean, (..., *image.shape))
    chex.assert_shape(targets, (*image.shape[:-1], 1))
    chex.assert_type(targets, bool)
    image, mean = image.astype(jnp.float32), mean.astype(jnp.float32)
    image, targets = _add_leading_axes(image, mean.ndim), _add_leading_axes(targets, mean.ndim)
    square = jnp.where(targets, jnp.square(image - mean), 0.0)
    count = jnp.sum(targets, axis=(-3, -2, -1), dtype=jnp.float32) * image.shape[-1]
    mse = jnp.sum(square, axis=(-3, -2, -1)) / jnp.maximum(count, 1.0)
    return -0.5 * count * jnp.log(mse + MIN_MSE)


def cholesky_log_prob(
    image: jax.Array,
    mean: jax.Array,
    cholesky: jax.Array,
    targets: jax.Array,
    *,
    distribution: str = "normal",
) -> jax.Array:
    """Sum over target pixels of log p(y), y the C values of a pixel, mean `mean` and covariance L L^T.

    With w = L^-1 (y - mean): log Normal = -|w|^2 / 2 - C/2 log(2 pi) - sum_i log L_ii; Student's t by
    `student_t.log_density` in place of the first two terms.

    Args:
      image: float (B, H, W, C).
      mean: float, the shape of `image`, or that with leading sample axes.
      cholesky: float (*mean.shape, C), L, lower-triangular with a positive diagonal.
      targets: bool (B, H, W, 1), the pixels that count.
      distribution: "normal" or "student_t".

    Returns:
      float32 (..., B): the leading axes of `mean`.
    """
    c = image.shape[-1]
    chex.assert_shape(mean, (..., *image.shape))
    chex.assert_shape(cholesky, (*mean.shape, c))
    chex.assert_shape(targets, (*image.shape[:-1], 1))
    chex.assert_type(targets, bool)
    image, mean, cholesky = (x.astype(jnp.float32) for x in (image, mean, cholesky))
    error = _add_leading_axes(image, mean.ndim) - mean
    whitened = []  # L^-1 e by forward substitution; C is small
    for i in range(c):
        rest = error[..., i] - sum(cholesky[..., i, j] * whitened[j] for j in range(i))
        whitened.append(rest / cholesky[..., i, i])
    square = sum(jnp.square(w) for w in whitened)
    log_determinant = sum(jnp.log(cholesky[..., i, i]) for i in range(c))
    if distribution == "student_t":
        log_prob = student_t.log_density(square, c) - log_determinant
    else:
        log_prob = -0.5 * square - 0.5 * c * LOG_2PI - log_determinant
    targets = _add_leading_axes(targets[..., 0], log_prob.ndim)
    return jnp.sum(jnp.where(targets, log_prob, 0.0), axis=(-2, -1))


def _add_leading_axes(x, rank):
    return x.reshape((1,) * (rank - x.ndim) + x.shape)
