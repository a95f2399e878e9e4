"""Brush strokes, drawn on the device as distances to line segments."""

import jax
import jax.numpy as jnp


def draw_strokes(
    key: jax.Array,
    shape: tuple[int, int, int],
    *,
    max_segments: int = 5,
    radius: tuple[float, float] = (0.8, 2.5),
) -> jax.Array:
    """Draws one polyline per image, with vertices anywhere in it.

    A pixel is covered where its centre lies within the brush's radius of a segment.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      max_segments: 1 to as many segments, the number uniformly at random.
      radius: bounds of the brush's radius, uniformly at random, in pixels.

    Returns:
      bool (B, H, W, 1), True = covered.
    """
    b, h, w = shape
    place_key, radius_key, count_key = jax.random.split(key, 3)
    vertices = jax.random.uniform(place_key, (b, max_segments + 1, 2)) * jnp.array([h, w])[None, None]
    radii = jax.random.uniform(radius_key, (b, 1, 1), minval=radius[0], maxval=radius[1])
    counts = jax.random.randint(count_key, (b, 1, 1), 1, max_segments + 1)
    covered = jnp.zeros(shape, bool)
    for index in range(max_segments):
        distance = _distance_to_segment(vertices[:, index], vertices[:, index + 1], h, w)
        covered |= (distance < radii) & (index < counts)
    return covered[..., None]


def _distance_to_segment(start: jax.Array, end: jax.Array, height: int, width: int) -> jax.Array:
    """Distance of every pixel to a segment of each image: float32 (B, H, W) from (B, 2) each."""
    rows = jnp.arange(height, dtype=jnp.float32)[None, :, None] - start[:, 0, None, None]
    columns = jnp.arange(width, dtype=jnp.float32)[None, None, :] - start[:, 1, None, None]
    along = end - start
    down, right = along[:, 0, None, None], along[:, 1, None, None]
    square = jnp.maximum(down * down + right * right, 1e-6)
    share = jnp.clip((rows * down + columns * right) / square, 0, 1)  # of the segment, to the nearest point
    return jnp.hypot(rows - share * down, columns - share * right)
