"""Pixel coordinates, made on the device."""

import jax
import jax.numpy as jnp


def grid(height: int, width: int) -> jax.Array:
    """Returns the centres of all pixels in [-1, 1], row then column: `(i + 0.5) / height * 2 - 1`.

    They do not depend on the resolution, so a decoder can be asked for another grid than it was trained on.

    Returns:
      float32 (H, W, 2).
    """
    rows = (jnp.arange(height, dtype=jnp.float32) + 0.5) / height * 2 - 1
    columns = (jnp.arange(width, dtype=jnp.float32) + 0.5) / width * 2 - 1
    return jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
