"""Colours of an attention map: hue is the direction of an offset, saturation its length.

The wheel of Baker et al. (2011) for optical flow, turned so that an offset to itself is white, down is red,
top right green, up cyan, left blue and bottom left pink.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

# Red, yellow, green, cyan, blue, magenta and the steps from each to the next; the last one leads back to red.
CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1))
STEPS = (15, 6, 4, 11, 13, 6)


def wheel_colours() -> np.ndarray:
    """The wheel's colours at full saturation, float32 (55, 3) in [0, 1], red first."""
    corners = np.array(CORNERS, np.float32)
    following = np.roll(corners, -1, axis=0)
    parts = [
        start + (end - start) * np.arange(steps, dtype=np.float32)[:, None] / np.float32(steps)
        for start, end, steps in zip(corners, following, STEPS, strict=True)
    ]
    return np.concatenate(parts)


def colour_offsets(offsets: jax.Array) -> jax.Array:
    """Colours each image's offsets, their lengths divided by the longest one.

    Args:
      offsets: float (B, h, w, 2), (dy, dx) down and to the right, in any unit.

    Returns:
      float32 (B, h, w, 3) in [0, 1]; white everywhere where all offsets are 0.
    """
    chex.assert_shape(offsets, (None, None, None, 2))
    offsets = offsets.astype(jnp.float32)
    length = jnp.linalg.norm(offsets, axis=-1)
    longest = jnp.max(length, axis=(1, 2), keepdims=True)
    saturation = (length / jnp.where(longest > 0, longest, 1))[..., None]
    # A plain 0, whose negative is -0: atan2 then puts straight down at the wheel's start, not at its end.
    down, right = jnp.unstack(jnp.where(offsets == 0, 0.0, offsets), axis=-1)
    place = (jnp.arctan2(-right, -down) / jnp.pi + 1) / 2 * (sum(STEPS) - 1)
    before = jnp.floor(place).astype(jnp.int32)
    share = (place - before)[..., None]
    colours = jnp.asarray(wheel_colours())
    hue = (1 - share) * colours[before] + share * colours[(before + 1) % sum(STEPS)]
    return 1 - saturation * (1 - hue)


def draw_wheel(side: int) -> jax.Array:
    """The legend: the colour of each offset from the centre; float32 (side, side, 3), white outside it.

    Args:
      side: pixels, at least 3.
    """
    place = jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2
    offsets = jnp.stack(jnp.meshgrid(place, place, indexing="ij"), axis=-1)
    is_inside = jnp.linalg.norm(offsets, axis=-1, keepdims=True) <= (side - 1) / 2
    return colour_offsets(jnp.where(is_inside, offsets, 0.0)[None])[0]
