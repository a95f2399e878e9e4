"""LPA, local pooling aggregation."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

RADIUS = 1  # a 3x3 window


def window_weights(length_scale: jax.Array) -> jax.Array:
    """Pooling weights alpha_j = exp(-d_j / length_scale) / sum_k exp(-d_k / length_scale).

    Args:
      length_scale: positive float (D,), in pixels, like the distances d.

    Returns:
      (3, 3, D); each channel sums to 1. A length scale of 1 is the paper's window.
    """
    chex.assert_rank(length_scale, 1)
    offsets = jnp.arange(-RADIUS, RADIUS + 1, dtype=jnp.float32)
    distance = jnp.hypot(offsets[:, None], offsets[None, :])
    weights = jnp.exp(-distance[:, :, None] / length_scale[None, None, :])
    return weights / weights.sum(axis=(0, 1), keepdims=True)


def pool(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Applies a window per channel: x*_i = sum_j alpha_j x_j, stride 1, zero padding, shape kept.

    A sum of shifted slices: in XLA on CPU it is many times faster than a depthwise convolution.

    Args:
      x: (B, H, W, D).
      weights: (3, 3, D), or (3, 3, 1) for all channels.

    Returns:
      (B, H, W, D) in the dtype of `x`.
    """
    chex.assert_rank([x, weights], [4, 3])
    _, h, w, _ = x.shape
    size = 2 * RADIUS + 1
    padded = jnp.pad(x, ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)))
    weights = weights.astype(x.dtype)
    return sum(
        padded[:, i : i + h, j : j + w] * weights[i, j][None, None, None, :]
        for i in range(size)
        for j in range(size)
    )


class LocalPoolingAggregation(nn.Module):
    """LPA: an average pool whose weights fall with the distance from the window's centre.

    Attributes:
      learned_scale: learn one positive length scale per channel; it starts at the paper's window, 1 pixel.
    """

    learned_scale: bool = False

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, D) to (B, H, W, D)."""
        chex.assert_rank(x, 4)
        return pool(x, self.window(x.shape[-1]))

    def shares(self, h: int, w: int, features: int) -> jax.Array:
        """What each value counts in the sum over a pooled map: 1 inside, less at the border.

        sum_i x*_i = sum_j shares_j x_j, so a global mean needs no pooled map.

        Args:
          h: H of the map.
          w: W.
          features: D.

        Returns:
          float32 (H, W, 1), or (H, W, D) with a learned scale.
        """
        turned = self.window(features)[::-1, ::-1]
        return pool(jnp.ones((1, h, w, turned.shape[-1])), turned)[0]

    @nn.compact
    def window(self, features: int) -> jax.Array:
        """The `window_weights` of so many features, (3, 3, 1) where they are the same for all."""
        log_scale = jnp.zeros((1,))
        if self.learned_scale:
            log_scale = self.param("log_scale", nn.initializers.zeros, (features,))
        return window_weights(jnp.exp(log_scale))
