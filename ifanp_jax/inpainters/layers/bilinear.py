"""Bilinear sampling of feature maps at real-valued places."""

import chex
import jax
import jax.numpy as jnp


def sample(features: jax.Array, places: jax.Array) -> jax.Array:
    """Features at places between cells, by bilinear interpolation; places outside move to the grid's edge.

    Args:
      features: float (B, h, w, D).
      places: float32 (B, y, x, 2), (row, column) in cells; whole numbers are the cells themselves.

    Returns:
      (B, y, x, D) in the dtype of `features`.
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
