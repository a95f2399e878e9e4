"""Kernel interpolation of observed pixels, separable in rows and columns.

value_k(i)      = sum_j w_k(i, j) m_j y_j / sum_j w_k(i, j) m_j
confidence_k(i) = log(sum_j w_k(i, j) m_j + 1e-4)
w_k(i, j)       = k(row_i - row_j) k(column_i - column_j),  k(d) = exp(-min(|d| / l_k, 30))

with one length scale l_k per head. It is GCA on the intensities themselves, with a similarity that falls with
the distance. Because the weight is a product, the sums over an image are two small matrix products, rows and
then columns: O(N (H + W)) time for N = H W pixels, where one matrix of all pairs costs O(N^2).

The bound of 30 per axis keeps every weight over exp(-60), so no mask makes the sums vanish in float32: the
quotient is the weighted mean of the equation for every context, near or far.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

LENGTH_SCALES = (0.5, 1.0, 2.0, 4.0)  # pixels, at the start
MAX_DECAY = 30.0  # exp(-60) per pair of pixels, and its reciprocal, are far inside float32
CONFIDENCE_FLOOR = 1e-4


def axis_weights(length_scale: jax.Array, size: int) -> jax.Array:
    """Weights k(i - j) between the positions of one axis.

    Args:
      length_scale: positive float32 (K,), in pixels.
      size: positions of the axis.

    Returns:
      float32 (K, size, size), symmetric, 1 on the diagonal.
    """
    chex.assert_rank(length_scale, 1)
    rows, columns = (jax.lax.broadcasted_iota(jnp.float32, (size, size), axis) for axis in (0, 1))
    distance = jnp.abs(rows - columns)
    return jnp.exp(-jnp.minimum(distance[None] / length_scale[:, None, None], MAX_DECAY))


def smooth(image: jax.Array, length_scale: jax.Array) -> jax.Array:
    """Sums sum_j w_k(i, j) x_j over all pixels j: rows first, then columns.

    Args:
      image: float32 (B, H, W, C).
      length_scale: positive float32 (K,), in pixels.

    Returns:
      float32 (B, H, W, K, C).
    """
    chex.assert_rank([image, length_scale], [4, 1])
    _, h, w, _ = image.shape
    # Full precision: a quotient of two sums follows, and far contexts give small ones.
    precision = jax.lax.Precision.HIGHEST
    rows, columns = axis_weights(length_scale, h), axis_weights(length_scale, w)
    over_rows = jnp.einsum("khi,biwc->khbwc", rows, image, precision=precision)
    return jnp.einsum("kwv,khbvc->bhwkc", columns, over_rows, precision=precision)


def interpolate(image: jax.Array, mask: jax.Array, length_scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weighted mean of the observed pixels around each position, and how much was observed there.

    Args:
      image: float (B, H, W, C), any value where unobserved.
      mask: bool (B, H, W, 1), True = observed.
      length_scale: positive float32 (K,), in pixels.

    Returns:
      The values, float32 (B, H, W, K, C), zeros for an image without any observed pixel; and the confidences
      log(sum of weights + 1e-4), float32 (B, H, W, K).
    """
    chex.assert_rank([image, mask], 4)
    chex.assert_type([image, mask], [float, bool])
    chex.assert_shape(mask, (*image.shape[:3], 1))
    observed = mask.astype(jnp.float32)
    squeezed = jnp.where(mask, image, 0).astype(jnp.float32)
    sums = smooth(jnp.concatenate([squeezed, observed], axis=-1), length_scale)
    weighted, total = sums[..., :-1], sums[..., -1:]
    # Both sums may be as small as exp(-60), whose square in a gradient would vanish: scale the two alike.
    scale = jax.lax.stop_gradient(1 / jnp.where(total > 0, total, 1.0))
    values = weighted * scale / jnp.where(total > 0, total * scale, 1.0)
    return values, jnp.log(total[..., 0] + CONFIDENCE_FLOOR)


class KernelInterpolation(nn.Module):
    """Interpolates the context with K kernels of learned length scale.

    Attributes:
      length_scales: the K length scales at the start, in pixels, positive; the sharpest first by convention.
        () = no kernels, and no parameters.
    """

    length_scales: tuple[float, ...] = LENGTH_SCALES

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns `interpolate` of image (B, H, W, C) and mask (B, H, W, 1) at the learned scales."""
        if not self.length_scales:
            return interpolate(image, mask, jnp.zeros(0))
        start = jnp.log(jnp.asarray(self.length_scales, jnp.float32))
        log_length_scale = self.param("log_length_scale", lambda key: start)
        return interpolate(image, mask, jnp.exp(log_length_scale))
