"""Spatial transformer (Jaderberg et al., 2015) in the place of contextual attention."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.inpainters.layers import bilinear


class SpatialTransformer(nn.Module):
    """Samples the features through one affine map per image: mean, hidden layer, 6 numbers.

    Attributes:
      hidden: units of the hidden layer.
      dtype: of the hidden layer; parameters and offsets are float32.
    """

    hidden: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Moves the features; at the start the map is the identity and they stay as they are.

        Args:
          features: float (B, h, w, D).
          known: float32 (B, h, w, 1), known fraction of each cell; not used, as by appearance flow.

        Returns:
          (B, h, w, D), and float32 offsets (dy, dx) in cells, (B, h, w, 2).
        """
        chex.assert_rank([features, known], 4)
        b, h, w, _ = features.shape
        mean = jnp.mean(features, axis=(1, 2), dtype=jnp.float32)
        x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype)(mean)).astype(jnp.float32)
        # The difference from the identity, so that the start is exact.
        change = nn.Dense(6, kernel_init=nn.initializers.zeros)(x).reshape(b, 2, 3)
        places = bilinear.cell_places(h, w)
        half = jnp.array([h, w], jnp.float32) / 2
        centred = (places + 0.5) / half[None, None] - 1  # in [-1, 1] from edge to edge
        extended = jnp.concatenate([centred, jnp.ones_like(centred[..., :1])], axis=-1)  # (h, w, 3)
        offsets = jnp.einsum("bij,hwj->bhwi", change, extended) * half[None, None, None]
        return bilinear.sample(features, places[None] + offsets), offsets
