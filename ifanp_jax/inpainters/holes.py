"""The window around a hole, which local critics look at."""

import chex
import jax
import jax.numpy as jnp


def window_start(mask: jax.Array) -> jax.Array:
    """Top and left of the window of half the sides around each hole, int32 (B, 2).

    It lies around the centre of the hole's bounding box, clamped; in the image's middle where nothing is
    hidden. Of DeepFill's boxes it is the box before its bands are observed again.
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


def draw_window_start(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Top and left of a window of half the sides anywhere in each of B images (H, W); int32 (B, 2)."""
    b, h, w = shape
    return jax.random.randint(key, (b, 2), 0, jnp.array([[h - h // 2 + 1, w - w // 2 + 1]]))


def cut_window(x: jax.Array, start: jax.Array) -> jax.Array:
    """Cuts the window of half the sides with this top and left, int32 (B, 2), out of images (B, H, W, C)."""
    chex.assert_rank([x, start], [4, 2])
    _, h, w, c = x.shape

    def cut_one(x, start):
        return jax.lax.dynamic_slice(x, (start[0], start[1], 0), (h // 2, w // 2, c))

    return jax.vmap(cut_one)(x, start)
