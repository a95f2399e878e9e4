"""Pixel coordinates and masked maps, made on the device."""

import chex
import jax
import jax.numpy as jnp


def coordinates(height: int, width: int) -> jax.Array:
    """Returns the centres of all pixels in [-1, 1], row then column: `(i + 0.5) / height * 2 - 1`.

    They do not depend on the resolution, so a decoder can be asked for another grid than it was trained on.

    Returns:
      float32 (H, W, 2).
    """
    rows = (jnp.arange(height, dtype=jnp.float32) + 0.5) / height * 2 - 1
    columns = (jnp.arange(width, dtype=jnp.float32) + 0.5) / width * 2 - 1
    return jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)


def hide_unobserved(image: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns `image` (B, H, W, C) with the unobserved pixels of `mask` (B, H, W, 1) set to 0, even NaN."""
    chex.assert_rank(image, 4)
    chex.assert_shape(mask, (*image.shape[:3], 1))
    chex.assert_type(mask, bool)
    return jnp.where(mask, image, 0)
