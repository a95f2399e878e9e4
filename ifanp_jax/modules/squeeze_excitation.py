"""Squeeze-and-excitation (Hu et al., 2018)."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp


class SqueezeExcitation(nn.Module):
    """Scales channels by a gate of their global mean: mean -> D/r -> ReLU -> D -> sigmoid -> scale.

    Attributes:
      reduction: r, the bottleneck's divisor.
      dtype: of the computation; parameters stay float32.
    """

    reduction: int = 4
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, D) to (B, H, W, D)."""
        chex.assert_rank(x, 4)
        features = x.shape[-1]
        gate = jnp.mean(x, axis=(1, 2), keepdims=True)
        gate = nn.relu(nn.Dense(max(1, features // self.reduction), dtype=self.dtype)(gate))
        return x * nn.sigmoid(nn.Dense(features, dtype=self.dtype)(gate))
