"""Brush strokes, drawn on the device: what lies within a brush's radius of line segments."""

import math

import jax
import jax.numpy as jnp

# DeepFill v2's strokes, at a side of 256 pixels.
FREE_FORM_SIDE = 256
NUM_STROKES = (1, 3)  # both included, as below
NUM_VERTICES = (4, 11)
STROKE_WIDTH = (12.0, 40.0)
MIN_RADIUS = 0.75  # pixels; from sqrt(1/2) a disc with its centre in the image covers a pixel's centre
MEAN_TURN = 2 * math.pi / 5
TURN_RANGE = 2 * math.pi / 15


def draw_strokes(
    key: jax.Array,
    shape: tuple[int, int, int],
    *,
    max_segments: int = 5,
    radius: tuple[float, float] = (0.8, 2.5),
) -> jax.Array:
    """Draws one polyline per image, with vertices anywhere in it.

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
    radius = jax.random.uniform(radius_key, (b, 1), minval=radius[0], maxval=radius[1])
    counts = jax.random.randint(count_key, (b, 1), 1, max_segments + 1)
    is_drawn = jnp.arange(max_segments)[None] < counts
    return brush(shape, vertices[:, :-1], vertices[:, 1:], radius, is_drawn)


def draw_free_form(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """DeepFill v2's free-form strokes: thick lines through a few vertices, turning left and right.

    Per image 1..3 strokes of 4..11 vertices after the first, 12..40 pixels wide at a side of 256; steps are
    normal with mean sqrt(H^2 + W^2) / 8 and half of it as deviation; ends and corners are round. Lines are at
    least 1.5 pixels wide, so that every image has a hole.

    Args:
      key: PRNG key.
      shape: (B, H, W).

    Returns:
      bool (B, H, W, 1), True = covered.
    """
    b, h, w = shape
    count_key, vertex_key, path_key, width_key = jax.random.split(key, 4)
    most, longest = NUM_STROKES[1], NUM_VERTICES[1]
    num_strokes = jax.random.randint(count_key, (b, 1, 1), NUM_STROKES[0], most + 1)
    num_steps = jax.random.randint(vertex_key, (b, most, 1), NUM_VERTICES[0], longest + 1)
    # All strokes are drawn at their full length, so that shapes are static; the rest of one is left out.
    is_drawn = jnp.arange(most)[None, :, None] < num_strokes
    is_drawn &= jnp.arange(longest)[None, None] < num_steps  # (B, strokes, steps)
    # Vertices lie between 0 and the sides, so a pixel's centre is half a pixel from its corner.
    vertices = _stroke_vertices(path_key, shape) - 0.5  # (B, strokes, steps + 1, 2)
    scale = min(h, w) / FREE_FORM_SIDE
    low, high = (scale * width for width in STROKE_WIDTH)
    radius = jax.random.uniform(width_key, (b, most, 1), minval=low, maxval=high) / 2
    radius = jnp.broadcast_to(jnp.maximum(radius, MIN_RADIUS), is_drawn.shape)

    def join(x):
        return x.reshape(b, most * longest, *x.shape[3:])

    return brush(shape, join(vertices[:, :, :-1]), join(vertices[:, :, 1:]), join(radius), join(is_drawn))


def _stroke_vertices(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Vertices of every stroke, (B, strokes, steps + 1, 2), row and column inside the image."""
    b, h, w = shape
    most, longest = NUM_STROKES[1], NUM_VERTICES[1]
    start_key, turn_key, angle_key, step_key, flip_key = jax.random.split(key, 5)
    sides = jnp.array([h, w], jnp.float32)[None, None]
    place = jax.random.uniform(start_key, (b, most, 2)) * sides
    # Directions: every second one is turned by half a circle, roughly.
    turn = jax.random.uniform(turn_key, (2, b, most, 1), maxval=TURN_RANGE)
    fraction = jax.random.uniform(angle_key, (b, most, longest))
    angle = MEAN_TURN - turn[0] + fraction * (turn[0] + turn[1])
    angle = jnp.where(jnp.arange(longest)[None, None] % 2 == 0, -angle, angle)
    # Steps, whose ends stay in the image.
    mean_step = math.hypot(h, w) / 8
    step = mean_step * (1 + jax.random.normal(step_key, (b, most, longest)) / 2)
    step = jnp.clip(step, 0, 2 * mean_step)
    moves = step[..., None] * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    vertices = [place]
    for index in range(longest):
        vertices.append(jnp.clip(vertices[-1] + moves[:, :, index], 0, sides))
    vertices = jnp.stack(vertices, axis=2)
    # The turns alone lead to the right.
    is_flipped = jax.random.bernoulli(flip_key, shape=(b, 1, 1, 2))
    return jnp.where(is_flipped, sides[None] - vertices, vertices)


def brush(
    shape: tuple[int, int, int], start: jax.Array, end: jax.Array, radius: jax.Array, is_drawn: jax.Array
) -> jax.Array:
    """Covers the pixels whose centres lie within a brush's radius of a segment; ends are round.

    Args:
      shape: (B, H, W).
      start: float32 (B, N, 2), row and column of each segment's start; the centre of the first pixel is 0, 0.
      end: float32 (B, N, 2).
      radius: float32 (B, N or 1), in pixels.
      is_drawn: bool (B, N), False = the segment is left out.

    Returns:
      bool (B, H, W, 1), True = covered.
    """
    segments = (start, end, jnp.broadcast_to(radius, is_drawn.shape), is_drawn)
    segments = [jnp.moveaxis(x, 1, 0) for x in segments]

    def draw(index, covered):
        start, end, radius, is_drawn = (x[index] for x in segments)
        distance = _distance_to_segment(start, end, *shape[1:])
        return covered | (is_drawn[:, None, None] & (distance < radius[:, None, None]))

    return jax.lax.fori_loop(0, is_drawn.shape[1], draw, jnp.zeros(shape, bool))[..., None]


def _distance_to_segment(start: jax.Array, end: jax.Array, height: int, width: int) -> jax.Array:
    """Distance of every pixel to a segment of each image: float32 (B, H, W) from (B, 2) each."""
    rows = jnp.arange(height, dtype=jnp.float32)[None, :, None] - start[:, 0, None, None]
    columns = jnp.arange(width, dtype=jnp.float32)[None, None, :] - start[:, 1, None, None]
    along = end - start
    down, right = along[:, 0, None, None], along[:, 1, None, None]
    square = jnp.maximum(down * down + right * right, 1e-6)
    nearest = jnp.clip((rows * down + columns * right) / square, 0, 1)  # as a fraction of the segment
    return jnp.hypot(rows - nearest * down, columns - nearest * right)
