"""Training images turned into more of them, on the device: crops and flips."""

import jax
import jax.numpy as jnp

FLIPS = ("none", "horizontal", "all")


def crop_random(key: jax.Array, images: jax.Array, side: int) -> jax.Array:
    """Cuts a square out of each image, anywhere in it.

    Args:
      key: PRNG key.
      images: (B, H, W, C).
      side: of the square, at most H and W.

    Returns:
      (B, side, side, C).
    """
    b, h, w, c = images.shape
    start = jax.random.randint(key, (b, 2), 0, jnp.array([[h - side + 1, w - side + 1]]))

    def cut(image, start):
        return jax.lax.dynamic_slice(image, (start[0], start[1], 0), (side, side, c))

    return jax.vmap(cut)(images, start)


def flip(key: jax.Array, images: jax.Array, flips: str) -> jax.Array:
    """Flips each image or not, with even odds.

    Args:
      key: PRNG key.
      images: (B, H, W, C); square for "all".
      flips: "none"; "horizontal" = left and right; "all" = also top and bottom, and rows with columns: the
        eight symmetries of a square.

    Returns:
      (B, H, W, C).
    """
    if flips == "none":
        return images
    chosen = jax.random.bernoulli(key, 0.5, (3, images.shape[0], 1, 1, 1))
    images = jnp.where(chosen[0], images[:, :, ::-1], images)
    if flips == "horizontal":
        return images
    images = jnp.where(chosen[1], images[:, ::-1], images)
    return jnp.where(chosen[2], jnp.swapaxes(images, 1, 2), images)


def augment(key: jax.Array, images: jax.Array, *, crop: int, flips: str) -> jax.Array:
    """Crops, then flips.

    Args:
      key: PRNG key.
      images: (B, H, W, C).
      crop: side of the random crop; 0 = the whole image.
      flips: of FLIPS.

    Returns:
      (B, crop, crop, C), or (B, H, W, C).
    """
    crop_key, flip_key = jax.random.split(key)
    return flip(flip_key, crop_random(crop_key, images, crop) if crop else images, flips)
