"""What a user gives to `Model.complete`, brought to one form and checked."""

import jax.numpy as jnp
import numpy as np

from ifanp_jax.errors import UserError
from ifanp_jax.models.base import ImageModel


def to_batch(image, mask, channels: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Brings an image or a batch of C = `channels`, and its mask, to one form.

    Args:
      image: uint8, or float in [0, 1] where observed; (H, W) for one channel, (H, W, C) or (B, H, W, C).
      mask: bool (H, W), (H, W, 1) or, for a batch, (B, H, W) or (B, H, W, 1).

    Returns:
      float32 (B, H, W, C) in [0, 1], 0 at unobserved pixels; bool (B, H, W, 1); whether the image has B.

    Raises:
      UserError: they have another form.
    """
    image, mask = np.asarray(image), np.asarray(mask)
    given = image.shape
    if image.ndim == 2 and channels == 1:
        image = image[..., None]
    is_batched = image.ndim == 4
    if image.ndim not in (3, 4) or image.shape[-1] != channels or image.size == 0:
        forms = f"(H, W, {channels}) or (B, H, W, {channels})" + (" or (H, W)" if channels == 1 else "")
        raise UserError(f"The image has shape {given} but this model takes {forms} with at least one pixel.")
    image = image if is_batched else image[None]
    b, h, w, _ = image.shape
    # The mask.
    if mask.dtype != np.bool_:
        raise UserError(
            f"The mask holds {mask.dtype} but must be bool, True = observed: write mask > 0 for example."
        )
    allowed = ((h, w), (h, w, 1), *(((b, h, w), (b, h, w, 1)) if is_batched else ()))
    if mask.shape not in allowed:
        forms = " or ".join(str(shape) for shape in allowed)
        raise UserError(f"The mask has shape {mask.shape} but for this image it must be {forms}.")
    mask = np.broadcast_to(mask if mask.shape in allowed[1::2] else mask[..., None], (b, h, w, 1))
    return _to_float(image, mask), mask, is_batched


def check_known(model: ImageModel, mask: np.ndarray) -> None:
    """Raises a UserError where a picture has no observed pixel and the model needs one."""
    if model.needs_known_pixels and not mask.any(axis=(1, 2, 3)).all():
        raise UserError(
            "The mask leaves no observed pixel, but this model completes from such pixels: mark some as "
            "observed, or take a neural process."
        )


def _to_float(image, mask):
    is_uint8 = image.dtype == np.uint8
    if not is_uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
        raise UserError(f"The image holds {image.dtype} but must be uint8, or float in [0, 1]: convert it.")
    image = np.where(mask, image, np.zeros((), image.dtype)).astype(np.float32)
    if is_uint8:
        image /= np.float32(255)
    low, high = image.min(), image.max()
    if np.isnan(low):
        raise UserError("An observed value of the image is NaN: mark its pixel as unobserved in the mask.")
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"The observed values of the image lie between {low:g} and {high:g} but must lie "
            "between 0 and 1: scale it, or give uint8."
        )
    return image
