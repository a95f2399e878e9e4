"""Training images turned into more of them, on the device: crops and flips."""

import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError

FLIPS = ("none", "horizontal", "all")
UNSCALED = (1.0, 1.0)


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


def crop_scaled(key: jax.Array, images: jax.Array, side: int, scales: tuple[float, float]) -> jax.Array:
    """Cuts a square out of each image, anywhere in it, and reduces it with Lanczos's kernel.

    Args:
      key: PRNG key.
      images: uint8 (B, H, W, C).
      side: of the reduced square, in pixels.
      scales: bounds (low, high) of side / side of the square that is cut, at most 1; the latter side is drawn
        uniformly for each image, so that small scales are as many as large ones. `side / low` is at most H
        and W.

    Returns:
      uint8 (B, side, side, C).
    """
    b, h, w, c = images.shape
    low, high = scales
    side_key, place_key = jax.random.split(key)
    cut_side = jax.random.uniform(side_key, (b, 1), minval=side / high, maxval=side / low)
    start = jax.random.uniform(place_key, (b, 2)) * (jnp.array([[h, w]]) - cut_side)
    scale = jnp.broadcast_to(side / cut_side, (b, 2))

    def cut(image, scale, start):
        return jax.image.scale_and_translate(
            image, (side, side, c), (0, 1), scale, -start * scale, method="lanczos3", antialias=True
        )

    reduced = jax.vmap(cut)(images.astype(jnp.float32), scale, start)
    return jnp.clip(jnp.round(reduced), 0, 255).astype(jnp.uint8)


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


def augment(
    key: jax.Array, images: jax.Array, *, crop: int, flips: str, scales: tuple[float, float] = UNSCALED
) -> jax.Array:
    """Crops, at a random scale where that is asked for, then flips.

    Args:
      key: PRNG key.
      images: (B, H, W, C).
      crop: side of the random crop; 0 = the whole image.
      flips: of FLIPS.
      scales: bounds as in `crop_scaled`; `UNSCALED` = crops as they are.

    Returns:
      (B, crop, crop, C), or (B, H, W, C).
    """
    crop_key, flip_key = jax.random.split(key)
    if crop and tuple(scales) != UNSCALED:
        images = crop_scaled(crop_key, images, crop, scales)
    elif crop:
        images = crop_random(crop_key, images, crop)
    return flip(flip_key, images, flips)


def check_scales(config_data) -> None:
    """Raises a UserError when `config.data.random_scale` is not a range of scales, or nothing is cropped."""
    scales = tuple(config_data.random_scale)
    is_number = all(isinstance(scale, int | float) for scale in scales)
    if not is_number or len(scales) != 2 or not 0 < scales[0] <= scales[1] <= 1:
        raise UserError(f"config.data.random_scale is {scales}; give a rising pair of fractions in (0, 1].")
    if scales[0] < 1 and not config_data.random_crop:
        raise UserError(
            f"config.data.random_scale is {scales} but whole images are taken; set config.data.random_crop "
            "to the side of the crops, or leave the scale at (1.0, 1.0)."
        )
