"""Appearance flow (Zhou et al., 2016) in the place of contextual attention."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.inpainters.layers import bilinear


class AppearanceFlow(nn.Module):
    """Takes each cell's features from where a predicted offset points: a 3x3 convolution, bilinear sampling.

    Attributes:
      dtype: of the convolution; parameters and offsets are float32.
    """

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Moves the features; at the start every offset is 0 and they stay as they are.

        Args:
          features: float (B, h, w, D).
          known: float32 (B, h, w, 1), known fraction of each cell; not used, unlike attention a flow may copy
            from the hole.

        Returns:
          (B, h, w, D), and float32 offsets (dy, dx) in cells, (B, h, w, 2).
        """
        chex.assert_rank([features, known], 4)
        _, h, w, _ = features.shape
        zeros = nn.initializers.zeros
        offsets = nn.Conv(2, (3, 3), kernel_init=zeros, dtype=self.dtype)(features).astype(jnp.float32)
        return bilinear.sample(features, bilinear.cell_places(h, w)[None] + offsets), offsets
