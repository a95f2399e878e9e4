"""Rectangular holes of the inpainters' trainings, made on the device.

Masks are bool (B, H, W, 1), True = observed. Every image has a hole of its own; `masks.inpainting` mixes
them.
"""

import jax
import jax.numpy as jnp

CENTRE_OVERLAP = 4 / 256  # of the side, by which Shift-Net's centre square is smaller on each side


def box(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """DeepFill's rectangle: a box of half the side, then thin bands at its edges become observed again.

    The bands are a rows at top and bottom and a' columns at left and right, a and a' uniform in 0..H/16.

    Args:
      key: PRNG key.
      shape: (B, H, W).

    Returns:
      bool (B, H, W, 1).
    """
    b, h, w = shape
    start_key, band_key = jax.random.split(key)
    start = jax.random.randint(start_key, (b, 2), 0, jnp.array([[h - h // 2 + 1, w - w // 2 + 1]]))
    band = jax.random.randint(band_key, (b, 2), 0, jnp.array([[h // 16 + 1, w // 16 + 1]]))
    return outside_box(shape, start + band, jnp.array([[h // 2, w // 2]]) - 2 * band)


def centre(shape: tuple[int, int, int], *, overlap: int = 0) -> jax.Array:
    """Hides rows and columns H/4..3H/4 - 1, `overlap` pixels less on each side; bool (B, H, W, 1)."""
    b, h, w = shape
    start = jnp.array([[h // 4 + overlap, w // 4 + overlap]])
    sides = jnp.array([[h // 2 - 2 * overlap, w // 2 - 2 * overlap]])
    return outside_box(shape, jnp.broadcast_to(start, (b, 2)), jnp.broadcast_to(sides, (b, 2)))


def outside_box(shape: tuple[int, int, int], start: jax.Array, sides: jax.Array) -> jax.Array:
    """Hides one box of each image and observes the rest.

    Args:
      shape: (B, H, W).
      start: int32 (B, 2), top and left of each box.
      sides: int32 (B, 2), its height and width.

    Returns:
      bool (B, H, W, 1).
    """
    _, h, w = shape
    rows, columns = jnp.arange(h)[None, :], jnp.arange(w)[None, :]
    in_rows = (rows >= start[:, :1]) & (rows < start[:, :1] + sides[:, :1])
    in_columns = (columns >= start[:, 1:]) & (columns < start[:, 1:] + sides[:, 1:])
    return ~(in_rows[:, :, None] & in_columns[:, None, :])[..., None]
