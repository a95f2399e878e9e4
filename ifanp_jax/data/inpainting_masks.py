"""Holes of the adversarial inpainters' trainings: bool (B, H, W, 1), True = observed, made on the device.

Every image has a hole of its own; `jnp.broadcast_to` of one image's mask gives a batch the same one.
"""

import math

import chex
import jax
import jax.numpy as jnp

from ifanp_jax.data import masks

KINDS = ("box", "strokes", "centre", "centre_overlap", "half", "pixels")

# DeepFill v2's strokes, at a side of 256 pixels.
STROKE_SIDE = 256
NUM_STROKES = (1, 3)  # both included, as below
NUM_VERTICES = (4, 11)
STROKE_WIDTH = (12.0, 40.0)
MIN_RADIUS = 0.75  # pixels; from sqrt(1/2) a disc with its centre in the image covers a pixel's centre
MEAN_TURN = 2 * math.pi / 5
TURN_RANGE = 2 * math.pi / 15
CENTRE_OVERLAP = 4  # pixels that Shift-Net's centre square is smaller on each side, at 256
PIXEL_FRACTIONS = (0.1, 0.5)  # observed


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
    start = box_start(key, shape)
    bounds = jnp.array([[h // 16 + 1, w // 16 + 1]])
    band = jax.random.randint(jax.random.fold_in(key, 1), (b, 2), 0, bounds)
    return _outside_box(shape, start + band, start + jnp.array([[h // 2, w // 2]]) - band)


def box_start(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Top and left of the box that `box` draws with the same key, before the bands; uniform in 0..H/2.

    Args:
      key: PRNG key.
      shape: (B, H, W).

    Returns:
      int32 (B, 2).
    """
    b, h, w = shape
    bounds = jnp.array([[h - h // 2 + 1, w - w // 2 + 1]])
    return jax.random.randint(jax.random.fold_in(key, 0), (b, 2), 0, bounds)


def centre(shape: tuple[int, int, int], *, overlap: int = 0) -> jax.Array:
    """Hides rows and columns H/4..3H/4 - 1, `overlap` pixels less on each side; bool (B, H, W, 1)."""
    b, h, w = shape
    first = jnp.array([[h // 4 + overlap, w // 4 + overlap]])
    after = jnp.array([[h // 4 + h // 2 - overlap, w // 4 + w // 2 - overlap]])
    return _outside_box(shape, jnp.broadcast_to(first, (b, 2)), jnp.broadcast_to(after, (b, 2)))


def _outside_box(shape, first, after):
    """Observed outside the rows and columns from `first` to before `after`, int32 (B, 2)."""
    _, h, w = shape
    rows, columns = jnp.arange(h)[None], jnp.arange(w)[None]
    in_rows = (rows >= first[:, :1]) & (rows < after[:, :1])
    in_columns = (columns >= first[:, 1:]) & (columns < after[:, 1:])
    return ~(in_rows[:, :, None] & in_columns[:, None, :])[..., None]


def strokes(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """DeepFill v2's free-form strokes: thick lines through a few vertices, turning left and right.

    Per image 1..3 strokes of 4..11 vertices after the first, 12..40 pixels wide at a side of 256; steps are
    normal with mean sqrt(H^2 + W^2) / 8 and half of it as deviation; ends and corners are round. Lines are at
    least 1.5 pixels wide, so that every image has a hole.

    Args:
      key: PRNG key.
      shape: (B, H, W).

    Returns:
      bool (B, H, W, 1).
    """
    b, h, w = shape
    count_key, vertex_key, path_key, width_key = jax.random.split(key, 4)
    most, longest = NUM_STROKES[1], NUM_VERTICES[1]
    num_strokes = jax.random.randint(count_key, (b, 1, 1), NUM_STROKES[0], most + 1)
    num_steps = jax.random.randint(vertex_key, (b, most, 1), NUM_VERTICES[0], longest + 1)
    # All strokes are drawn at their full length, so that shapes are static; the rest of one is left out.
    is_drawn = jnp.arange(most)[None, :, None] < num_strokes
    is_drawn &= jnp.arange(longest)[None, None] < num_steps  # (B, strokes, steps)
    vertices = _stroke_vertices(path_key, shape)  # (B, strokes, steps + 1, 2)
    scale = min(h, w) / STROKE_SIDE
    low, high = (scale * width for width in STROKE_WIDTH)
    radius = jax.random.uniform(width_key, (b, most, 1), minval=low, maxval=high) / 2
    radius = jnp.broadcast_to(jnp.maximum(radius, MIN_RADIUS), is_drawn.shape)

    def by_segment(x):
        return jnp.moveaxis(x.reshape(b, most * longest, *x.shape[3:]), 1, 0)

    def draw(segment, hidden):
        start, end, radius, is_drawn = (x[segment] for x in segments)
        return hidden | (is_drawn[:, None, None] & _is_near(start, end, radius, (h, w)))

    segments = [by_segment(x) for x in (vertices[:, :, :-1], vertices[:, :, 1:], radius, is_drawn)]
    hidden = jax.lax.fori_loop(0, most * longest, draw, jnp.zeros((b, h, w), bool))
    return ~hidden[..., None]


def _stroke_vertices(key, shape):
    """Vertices of every stroke, (B, strokes, steps + 1, 2), row and column inside the image."""
    b, h, w = shape
    most, longest = NUM_STROKES[1], NUM_VERTICES[1]
    start_key, turn_key, angle_key, step_key, flip_key = jax.random.split(key, 5)
    sides = jnp.array([h, w], jnp.float32)[None, None]
    place = jax.random.uniform(start_key, (b, most, 2)) * sides
    turn = jax.random.uniform(turn_key, (2, b, most, 1), maxval=TURN_RANGE)
    share = jax.random.uniform(angle_key, (b, most, longest))
    angle = MEAN_TURN - turn[0] + share * (turn[0] + turn[1])
    angle = jnp.where(jnp.arange(longest)[None, None] % 2 == 0, -angle, angle)
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


def _is_near(start, end, radius, size):
    """Whether a pixel's centre is within `radius` (B,) of the line from start to end (B, 2), (B, h, w)."""
    h, w = size
    rows, columns = jnp.arange(h) + 0.5, jnp.arange(w) + 0.5
    start, end = (x[:, :, None, None] for x in (start, end))  # (B, 2, 1, 1)
    down, right = rows[None, :, None] - start[:, 0], columns[None, None, :] - start[:, 1]
    along = end - start
    square = jnp.maximum(along[:, 0] ** 2 + along[:, 1] ** 2, 1e-6)
    share = jnp.clip((down * along[:, 0] + right * along[:, 1]) / square, 0, 1)
    distance = jnp.hypot(down - share * along[:, 0], right - share * along[:, 1])
    return distance <= radius[:, None, None]


def crop_start(mask: jax.Array) -> jax.Array:
    """Top and left of the window of half the sides around each hole: at its bounding box's centre, clamped.

    Args:
      mask: bool (B, H, W, 1), True = observed.

    Returns:
      int32 (B, 2); the middle of the image where nothing is hidden.
    """
    chex.assert_rank(mask, 4)
    chex.assert_type(mask, bool)
    hole = ~mask[..., 0]

    def along(axis):
        has_hole = jnp.any(hole, axis=3 - axis)  # rows or columns of the hole, (B, side)
        side = has_hole.shape[1]
        first = jnp.argmax(has_hole, axis=1)
        last = side - 1 - jnp.argmax(has_hole[:, ::-1], axis=1)
        start = (first + last + 1 - side // 2) // 2
        start = jnp.where(jnp.any(has_hole, axis=1), start, side // 4)
        return jnp.clip(start, 0, side - side // 2)

    return jnp.stack([along(1), along(2)], axis=1).astype(jnp.int32)


def draw(
    key: jax.Array, shape: tuple[int, int, int], shares: dict[str, float]
) -> tuple[jax.Array, jax.Array]:
    """One hole per image, of kinds drawn with stated probabilities, and the window around it.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      shares: probability of each kind; they add up to 1.

    Returns:
      bool (B, H, W, 1), and int32 (B, 2), top and left of the local critic's window: the box before its bands
      are observed again, for other kinds `crop_start`.
    """
    unknown = sorted(set(shares) - set(KINDS))
    if unknown or not shares or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"shares are {shares}; give probabilities that add up to 1, of {', '.join(KINDS)}.")
    kind_key, *keys = jax.random.split(key, 1 + len(KINDS))
    drawn = [_draw_kind(keys[KINDS.index(kind)], shape, kind) for kind in shares]
    masks_by_kind, starts = (jnp.stack(x) for x in zip(*drawn, strict=True))
    shares = jnp.array(list(shares.values()))
    kind = jax.random.choice(kind_key, len(drawn), (shape[0],), p=shares)
    image = jnp.arange(shape[0])
    return masks_by_kind[kind, image], starts[kind, image]


def _draw_kind(key, shape, kind):
    b, h, w = shape
    if kind == "box":
        return box(key, shape), box_start(key, shape)
    if kind == "strokes":
        mask = strokes(key, shape)
    elif kind == "half":
        side = jax.random.randint(key, (b,), 0, len(masks.HALVES))
        mask = jnp.stack([masks.half(side, shape) for side in masks.HALVES])[side, jnp.arange(b)]
    elif kind == "pixels":
        fraction_key, place_key = jax.random.split(key)
        fraction = jax.random.uniform(fraction_key, minval=PIXEL_FRACTIONS[0], maxval=PIXEL_FRACTIONS[1])
        mask = masks.random(place_key, shape, masks.count_pixels(fraction, h, w))
    else:
        overlap = round(CENTRE_OVERLAP * min(h, w) / STROKE_SIDE) if kind == "centre_overlap" else 0
        mask = centre(shape, overlap=overlap)
    return mask, crop_start(mask)
