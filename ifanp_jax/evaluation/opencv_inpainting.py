"""OpenCV's two inpainting methods, as an optional comparator.

They are Telea's fast marching (2004) and the Navier-Stokes method of Bertalmio et al. (2001). OpenCV is no
dependency of this package: it is imported when called.
"""

import chex
import numpy as np

from ifanp_jax.errors import UserError

METHODS = ("telea", "navier_stokes")
RADIUS = 3.0  # pixels around each one that is filled
EMPTY_INTENSITY = 0.5  # grey, where nothing at all is known


def complete(method: str, image: np.ndarray, mask: np.ndarray, *, radius: float = RADIUS) -> np.ndarray:
    """Completes one image; OpenCV works on 8 bits, so the filled pixels are multiples of 1/255.

    Args:
      method: one of METHODS.
      image: float (H, W, C) in [0, 1]; hidden pixels are never read.
      mask: bool (H, W, 1), True = observed.
      radius: of the neighbourhood, pixels.

    Returns:
      float32 (H, W, C), known pixels as they were.

    Raises:
      AssertionError: a rank, shape or dtype differs from the above.
      UserError: for an unknown method, or where OpenCV is not installed.
    """
    chex.assert_rank([image, mask], 3)
    chex.assert_type([image, mask], [float, bool])
    chex.assert_shape(mask, (*image.shape[:2], 1))
    if method not in METHODS:
        raise UserError(f"Unknown OpenCV method {method!r}: choose one of {', '.join(METHODS)}.")
    known = np.asarray(mask)
    values = np.where(known, np.asarray(image, np.float32), np.float32(0))
    if not known.any():
        return np.full_like(values, EMPTY_INTENSITY)
    if known.all():
        return values
    cv2 = _import_opencv()
    flag = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}[method]
    pictures = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    hole = (~known[:, :, 0]).astype(np.uint8)
    # One or three channels are what it takes: so each channel by itself, as it does inside.
    filled = [
        cv2.inpaint(np.ascontiguousarray(pictures[:, :, channel]), hole, radius, flag)
        for channel in range(values.shape[2])
    ]
    return np.where(known, values, np.stack(filled, axis=-1).astype(np.float32) / 255)


def _import_opencv():
    try:
        import cv2
    except ImportError:
        raise UserError(
            "Telea's and the Navier-Stokes method need OpenCV: install opencv-python-headless, or leave "
            "them out."
        ) from None
    return cv2
