"""Layers that move features to other cells by bilinear sampling, in the place of contextual attention.

Appearance flow (Zhou et al., 2016) predicts an offset for each cell, a spatial transformer (Jaderberg et al.,
2015) one affine map per image. Both start as the identity. Unlike attention they may copy from the hole, so
they take no mask.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp


def sample(features: jax.Array, places: jax.Array) -> jax.Array:
    """Features at places between cells, by bilinear interpolation; places outside move to the grid's edge.

    Maps features (B, h, w, D) and places (B, y, x, 2), (row, column) in cells, to (B, y, x, D) in the dtype
    of the features.
    """
    chex.assert_rank([features, places], 4)
    b, h, w, d = features.shape
    _, y, x, _ = places.shape
    row = jnp.clip(places[..., 0], 0, h - 1)
    column = jnp.clip(places[..., 1], 0, w - 1)
    # At the last cell the upper neighbour is beyond the grid: its weight is 0, so any cell will do.
    top, left = jnp.floor(row), jnp.floor(column)
    down, right = (row - top)[..., None], (column - left)[..., None]
    flat = features.reshape(b, h * w, d)

    def gather(row, column):
        index = jnp.minimum(row, h - 1) * w + jnp.minimum(column, w - 1)
        index = index.astype(jnp.int32).reshape(b, y * x, 1)
        return jnp.take_along_axis(flat, index, axis=1).reshape(b, y, x, d)

    upper = gather(top, left) * (1 - right) + gather(top, left + 1) * right
    lower = gather(top + 1, left) * (1 - right) + gather(top + 1, left + 1) * right
    return (upper * (1 - down) + lower * down).astype(features.dtype)


def cell_places(h: int, w: int) -> jax.Array:
    """(row, column) of every cell, float32 (h, w, 2)."""
    rows, columns = jnp.arange(h, dtype=jnp.float32), jnp.arange(w, dtype=jnp.float32)
    return jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)


class AppearanceFlow(nn.Module):
    """Takes each cell's features from where an offset points, which a 3x3 convolution predicts.

    Attributes:
      dtype: of the convolution; parameters and offsets are float32.
    """

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps (B, h, w, D) to the moved features and offsets (dy, dx) in cells, float32 (B, h, w, 2)."""
        chex.assert_rank(features, 4)
        _, h, w, _ = features.shape
        zeros = nn.initializers.zeros
        offsets = nn.Conv(2, (3, 3), kernel_init=zeros, dtype=self.dtype)(features).astype(jnp.float32)
        return sample(features, cell_places(h, w)[None] + offsets), offsets


class SpatialTransformer(nn.Module):
    """Samples the features through one affine map per image: mean, hidden layer, 6 numbers.

    Attributes:
      hidden: units of the hidden layer.
      dtype: of the hidden layer; parameters and offsets are float32.
    """

    hidden: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps (B, h, w, D) to the moved features and offsets (dy, dx) in cells, float32 (B, h, w, 2)."""
        chex.assert_rank(features, 4)
        b, h, w, _ = features.shape
        mean = jnp.mean(features, axis=(1, 2), dtype=jnp.float32)
        x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype)(mean)).astype(jnp.float32)
        # The difference from the identity, so that the start is exact.
        change = nn.Dense(6, kernel_init=nn.initializers.zeros)(x).reshape(b, 2, 3)
        places = cell_places(h, w)
        half = jnp.array([h, w], jnp.float32) / 2
        centred = (places + 0.5) / half[None, None] - 1  # in [-1, 1] from edge to edge
        extended = jnp.concatenate([centred, jnp.ones_like(centred[..., :1])], axis=-1)  # (h, w, 3)
        offsets = jnp.einsum("bij,hwj->bhwi", change, extended) * half[None, None, None]
        return sample(features, places[None] + offsets), offsets
