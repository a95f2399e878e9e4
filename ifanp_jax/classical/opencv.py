"""OpenCV's inpainting methods, as optional comparators, and GLCIC's finish.

Telea's fast marching (2004), the Navier-Stokes method of Bertalmio et al. (2001), and of the contributed
modules frequency selective reconstruction (Genser et al., 2018) and the shift-map (He and Sun, 2012). OpenCV
is no dependency of this package: it is imported when called.
"""

import chex
import numpy as np

from ifanp_jax.errors import UserError

CONTRIBUTED = ("fsr", "shift_map")  # opencv-contrib-python-headless has them
METHODS = ("telea", "navier_stokes", *CONTRIBUTED)
RADIUS = 3.0  # pixels around each one that is filled
FSR_MARGIN = 16  # mirrored pixels around the picture: without them FSR loses some 3 dB near its sides
EMPTY_INTENSITY = 0.5  # grey, where nothing at all is known
FINISH_RADIUS = 1.0  # pixels, of GLCIC's
FINISH_MARGIN = 8  # pixels around the picture, where the hole does not touch that side


def missing_methods() -> tuple[str, ...]:
    """Those of METHODS that cannot run here."""
    try:
        import cv2
    except ImportError:
        return METHODS
    return () if hasattr(cv2, "xphoto") else CONTRIBUTED


def check(method: str) -> None:
    """Raises a UserError where one of METHODS cannot run here."""
    if method in missing_methods():
        package = "opencv-contrib-python-headless" if method in CONTRIBUTED else "opencv-python-headless"
        raise UserError(f"The method {method} needs OpenCV: install {package}, or leave it out.")


def complete(method: str, image: np.ndarray, mask: np.ndarray, *, radius: float = RADIUS) -> np.ndarray:
    """Completes one image; OpenCV works on 8 bits, so the filled pixels are multiples of 1/255.

    Args:
      image: float (H, W, C) in [0, 1]; hidden pixels are never read. "shift_map" takes 1 or 3 channels.
      mask: bool (H, W, 1), True = observed.

    Returns:
      float32 (H, W, C), known pixels as they were.

    Raises:
      UserError: for an unknown method, or where OpenCV, or the part of it with this method, is not installed.
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
    cv2 = _import_opencv(method)
    picture = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    if method == "shift_map":
        filled = _shift_map(cv2, picture, known[:, :, 0])
    else:
        # One or three channels are what they take: so each channel by itself.
        channels = [np.ascontiguousarray(picture[:, :, number]) for number in range(picture.shape[2])]
        if method == "fsr":
            parts = [_fsr(cv2, channel, known[:, :, 0]) for channel in channels]
        else:
            flag = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}[method]
            hole = (~known[:, :, 0]).astype(np.uint8)
            parts = [cv2.inpaint(channel, hole, radius, flag) for channel in channels]
        filled = np.stack(parts, axis=-1)
    return np.where(known, values, filled.astype(np.float32) / 255)


def _fsr(cv2, channel, known):
    channel, known = (np.pad(values, FSR_MARGIN, mode="symmetric") for values in (channel, known))
    answer = np.zeros_like(channel)
    cv2.xphoto.inpaint(channel, np.where(known, 255, 0).astype(np.uint8), answer, cv2.xphoto.INPAINT_FSR_FAST)
    inside = slice(FSR_MARGIN, -FSR_MARGIN)
    return answer[inside, inside]


def _shift_map(cv2, picture, known):
    """Compares colours as they look (CIE Lab), as OpenCV advises; Telea's answer where it finds no part."""
    colors = np.ascontiguousarray(np.broadcast_to(picture, (*known.shape, 3)))
    colors = cv2.cvtColor(colors, cv2.COLOR_RGB2Lab)
    answer = cv2.inpaint(colors, (~known).astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)
    cv2.xphoto.inpaint(colors, np.where(known, 255, 0).astype(np.uint8), answer, cv2.xphoto.INPAINT_SHIFTMAP)
    return cv2.cvtColor(answer, cv2.COLOR_Lab2RGB)[..., : picture.shape[2]]


def blend(prediction: np.ndarray, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """GLCIC's finish: the prediction's gradients, blended into the picture (Perez et al., 2003).

    The hole is first filled by Telea's method, radius 1; `cv2.seamlessClone` then puts the prediction there.

    Args:
      prediction: float (H, W, C) in [0, 1]; C is 1 or 3.
      image: float (H, W, C) in [0, 1]; hidden pixels are never read.
      mask: bool (H, W, 1), True = observed.

    Returns:
      float32 (H, W, C), known pixels as they were; where nothing is known, the prediction.
    """
    chex.assert_rank([prediction, image, mask], 3)
    chex.assert_equal_shape([prediction, image])
    known = np.asarray(mask)
    if not known.any() or known.all():
        return np.where(known, image, prediction).astype(np.float32)
    cv2 = _import_opencv("telea")
    filled = complete("telea", image, mask, radius=FINISH_RADIUS)

    hidden = ~known[:, :, 0]
    # Where the hole touches a side, the picture is mirrored there: nothing else may bind the answer's edge.
    margins = [
        tuple(side if hidden.take(end, axis=axis).any() else FINISH_MARGIN for end in (0, -1))
        for axis, side in enumerate(hidden.shape)
    ]

    def prepare(values):
        picture = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
        padded = np.pad(picture, [*margins, (0, 0)], mode="symmetric")
        return np.ascontiguousarray(np.broadcast_to(padded, (*padded.shape[:2], 3)))

    hole = np.pad(np.pad(hidden, margins, mode="symmetric")[1:-1, 1:-1], 1).astype(np.uint8) * 255
    rows, columns = (np.flatnonzero(hole.any(axis=1 - axis)) for axis in (0, 1))
    # The middle of the hole's bounding box is put there.
    centre = tuple(int(found[0] + (found[-1] - found[0] + 1) // 2) for found in (columns, rows))
    blended = cv2.seamlessClone(prepare(prediction), prepare(filled), hole, centre, cv2.NORMAL_CLONE)
    (top, _), (left, _) = margins
    h, w, c = image.shape
    inside = blended[top : top + h, left : left + w, :c]
    return np.where(known, image, inside.astype(np.float32) / 255).astype(np.float32)


def _import_opencv(method):
    check(method)
    import cv2

    return cv2
