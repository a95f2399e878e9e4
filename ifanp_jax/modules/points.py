"""Pointwise (per position) layers."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class PointwiseEncoder(nn.Module):
    """A stack of 1x1 convolutions, written as Dense layers (in XLA on CPU they are 3 to 4 times faster).

    Attributes:
      features: width of each layer; the activation stands between layers, not after the last.
      dtype: of the computation; parameters stay float32.
      use_bias: whether the layers are affine or only linear.
    """

    features: Sequence[int]
    dtype: jnp.dtype = jnp.float32
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., F) to (..., features[-1])."""
        for index, width in enumerate(self.features):
            x = nn.Dense(width, dtype=self.dtype, use_bias=self.use_bias)(x if index == 0 else nn.gelu(x))
        return x
