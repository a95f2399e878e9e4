"""Completion without learning: the baselines that every trained model has to beat.

METHODS interpolate any context, HOLE_METHODS are those that fill holes. SciPy, scikit-image, scikit-learn and
OpenCV do most of the work, on the host and one mask at a time; they are imported when called. All methods
see the observed pixels alone, treat the channels alike and keep the observed pixels.
"""

import contextlib
import warnings
from collections.abc import Iterable

import chex
import numpy as np

from ifanp_jax.classical import opencv, patch_match
from ifanp_jax.errors import UserError

METHODS = ("nearest", "linear", "cubic", "biharmonic", "gaussian_process")
# Of holes; "cubic", "gaussian_process" and "fsr" are made for scattered pixels.
HOLE_METHODS = ("mean", "nearest", "linear", "biharmonic", "telea", "navier_stokes", "patch_match")
ALL_METHODS = tuple(dict.fromkeys((*METHODS, "fsr", *HOLE_METHODS)))

LENGTH_SCALE = 3.0  # pixels; random contexts lose at most 0.1 dB on MNIST and CelebA32, 0.3 dB on 8x8 digits
LENGTH_SCALES, OBSERVED = (1.5, 2.0, 3.0, 4.0, 6.0), (0.2, 0.4, 0.6)  # pixels and shares to choose by
NOISE = 1e-3  # variance of the observations over the variance of the process; it also conditions the system
MIN_FSR_SIDE = 64  # pixels; its blocks have 16, and a thousand digits would take an hour
MAX_GAUSSIAN_PROCESS_PIXELS = 8192  # one dense system: 64x64 is fine, 128x128 would take gigabytes


def methods_for(height: int, width: int) -> tuple[str, ...]:
    """METHODS, without "gaussian_process" above MAX_GAUSSIAN_PROCESS_PIXELS pixels."""
    is_small = height * width <= MAX_GAUSSIAN_PROCESS_PIXELS
    return tuple(method for method in METHODS if is_small or method != "gaussian_process")


def scattered_methods(height: int, width: int) -> tuple[str, ...]:
    """`methods_for`, and for pictures of MIN_FSR_SIDE or more OpenCV's "fsr", where it is installed."""
    has_fsr = min(height, width) >= MIN_FSR_SIDE and "fsr" not in opencv.missing_methods()
    return (*methods_for(height, width), *(("fsr",) if has_fsr else ()))


def hole_methods() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """HOLE_METHODS in two parts: those that can run here, and those that need OpenCV where it is missing."""
    gone = opencv.missing_methods()
    available = tuple(method for method in HOLE_METHODS if method not in gone)
    return available, tuple(method for method in HOLE_METHODS if method in gone)


def _single_threaded() -> contextlib.AbstractContextManager:
    # OpenBLAS threads spin on the many tiny systems: up to 300 times slower beside another busy program.
    import scipy.linalg
    import scipy.spatial  # noqa: F401  the limit reaches the libraries that are already loaded
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


def _coordinates(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).astype(np.float64)  # (N, 2), row and column in pixels


def _nearest(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from scipy.interpolate import NearestNDInterpolator

    return NearestNDInterpolator(_coordinates(mask), values[mask])(_coordinates(~mask))


def _triangulated(method: str, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from scipy.interpolate import griddata
    from scipy.spatial import QhullError

    nearest = _nearest(values, mask)
    with warnings.catch_warnings():
        # SciPy then uses its last iterate of the gradients: still an interpolation, clipped by the caller.
        warnings.filterwarnings("ignore", "Gradient estimation did not converge")
        try:
            inside = griddata(_coordinates(mask), values[mask], _coordinates(~mask), method=method)
        except QhullError:  # fewer than three observed pixels, or all on one line: there is no triangle
            return nearest
    return np.where(np.isfinite(inside), inside, nearest)


def _biharmonic(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from scipy.sparse.linalg import MatrixRankWarning
    from skimage.restoration import inpaint_biharmonic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MatrixRankWarning)  # a singular system gives NaN, caught below
        completed = inpaint_biharmonic(values, ~mask, channel_axis=-1)[~mask]
    return completed if np.isfinite(completed).all() else _nearest(values, mask)


def _gaussian_process(values: np.ndarray, mask: np.ndarray, length_scale: float) -> np.ndarray:
    from scipy.linalg import cho_factor, cho_solve
    from sklearn.gaussian_process.kernels import Matern

    kernel = Matern(length_scale, nu=1.5)
    context, target = _coordinates(mask), _coordinates(~mask)
    mean = values[mask].mean(axis=0, keepdims=True)  # (1, K)
    factor = cho_factor(kernel(context) + NOISE * np.eye(len(context)), overwrite_a=True)
    weights = cho_solve(factor, values[mask] - mean)  # (N, K)
    return mean + kernel(target, context) @ weights


def _interpolate(method: str, values: np.ndarray, mask: np.ndarray, length_scale: float) -> np.ndarray:
    """The unobserved pixels (H * W - N, K) of values (H, W, K): every method solves once for all K."""
    if method in opencv.METHODS:
        return opencv.complete(method, values, mask[..., None])[~mask]
    if method in ("linear", "cubic"):
        return _triangulated(method, values, mask)
    if method == "gaussian_process":
        return _gaussian_process(values, mask, length_scale)
    if method == "mean":
        return values[mask].mean(axis=0, keepdims=True)
    return {"nearest": _nearest, "biharmonic": _biharmonic}[method](values, mask)


def _check(methods: Iterable[str], height: int, width: int) -> None:
    for method in methods:
        if method not in ALL_METHODS:
            raise UserError(f"Unknown classical method {method!r}: choose one of {', '.join(ALL_METHODS)}.")
        if method in METHODS and method not in methods_for(height, width):
            raise UserError(
                f"gaussian_process got an image of {height}x{width} pixels and takes at most "
                f"{MAX_GAUSSIAN_PROCESS_PIXELS} pixels: leave it out or use smaller images."
            )


def _complete_values(method: str, values: np.ndarray, mask: np.ndarray, length_scale: float) -> np.ndarray:
    if not mask.any():
        return np.full(values.shape, opencv.EMPTY_INTENSITY, np.float32)
    completed = values.astype(np.float32)
    if not mask.all():
        unobserved = _interpolate(method, values.astype(np.float64), mask, length_scale)
        completed[~mask] = np.clip(unobserved, 0.0, 1.0)
    return completed


def complete(
    method: str, image: np.ndarray, mask: np.ndarray, *, length_scale: float = LENGTH_SCALE
) -> np.ndarray:
    """Completes one image from its observed pixels.

    - mean: the mean of the observed pixels.
    - nearest: the nearest observed pixel; ties are broken arbitrarily.
    - linear, cubic: on the Delaunay triangles of the observed pixels (cubic: Clough and Tocher), nearest
      outside their convex hull and where there is no triangle.
    - biharmonic: Damelin and Hoang 2018; limited to the range of the observed pixels, per channel; nearest
      if the observed pixels do not determine it.
    - gaussian_process: the posterior mean m + k(x, X) (k(X, X) + NOISE I)^-1 (y - m), k the Matern kernel of
      order 3/2 over pixels, m the mean of the observed pixels (Rasmussen and Williams 2006, equation 2.25).
      Its length scale is fixed, not fitted per image; see `select_length_scale`.
    - telea, navier_stokes, fsr: of OpenCV, on 8 bits; see `opencv`.
    - patch_match: patches of the image itself; see `patch_match`.

    Args:
      image: float (H, W, C), intensities in [0, 1]; unobserved pixels are never read.
      mask: bool (H, W, 1), True = observed. No observed pixel gives grey everywhere.
      length_scale: of "gaussian_process", pixels.

    Returns:
      float32 (H, W, C) in [0, 1]; observed pixels equal those of the image.

    Raises:
      UserError: unknown method, no OpenCV, or an image too large for "gaussian_process".
    """
    chex.assert_rank([image, mask], 3)
    completed = complete_images(image[None], mask[None], methods=[method], length_scale=length_scale)
    return completed[method][0]


def complete_images(
    images: np.ndarray,
    masks: np.ndarray,
    *,
    methods: Iterable[str] = METHODS,
    length_scale: float = LENGTH_SCALE,
) -> dict[str, np.ndarray]:
    """Completes many images with several methods.

    Images with the same mask are solved together, as channels of one image: same numbers, one factorisation.
    Only "patch_match" takes them one by one. METHODS on 200 images under three random masks and four halves
    take, on a two-core CPU, about 3 s for 8x8x1, 15 s for 28x28x1 and 22 s for 32x32x3.

    Args:
      images: float (B, H, W, C), intensities in [0, 1]; unobserved pixels are never read.
      masks: bool (B, H, W, 1), True = observed.
      length_scale: of "gaussian_process", pixels.

    Returns:
      method -> float32 (B, H, W, C) in [0, 1], as `complete` returns them.

    Raises:
      UserError: unknown method, or images too large for "gaussian_process"; before any work is done. Later,
        where OpenCV is needed and missing.
    """
    chex.assert_rank(images, 4)
    chex.assert_type(images, float)
    chex.assert_shape(masks, (*images.shape[:3], 1))
    chex.assert_type(masks, bool)
    images, masks, methods = np.asarray(images), np.asarray(masks), tuple(methods)
    b, h, w, c = images.shape
    _check(methods, h, w)
    # Complete all images of one mask at once.
    completed = {method: np.empty(images.shape, np.float32) for method in methods}
    distinct, owner = np.unique(masks.reshape(b, h * w), axis=0, return_inverse=True)
    with _single_threaded():
        for number, mask in enumerate(distinct):
            chosen = np.flatnonzero(owner == number)
            k, known = len(chosen), mask.reshape(h, w)
            values = np.moveaxis(images[chosen], 0, 2).reshape(h, w, k * c)
            for method in methods:
                if method == "patch_match":  # a patch is of one image
                    filled = [patch_match.complete(image, known[..., None]) for image in images[chosen]]
                    completed[method][chosen] = np.stack(filled)
                else:
                    result = _complete_values(method, values, known, length_scale)  # (H, W, K * C)
                    completed[method][chosen] = np.moveaxis(result.reshape(h, w, k, c), 2, 0)
    return completed


def select_length_scale(train_images: np.ndarray, *, seed: int = 0) -> float:
    """Chooses the length scale of "gaussian_process" once per data set, on training images.

    The choice is that of LENGTH_SCALES with the highest PSNR, observed pixels kept, averaged over images and
    the shares OBSERVED of their pixels. 16 images (a few seconds at 32x32) are enough.

    Args:
      train_images: float (B, H, W, C), a few training images in [0, 1], of a size that the method takes.
    """
    images = np.asarray(train_images)
    b, h, w, _ = images.shape
    ranks = np.random.default_rng(seed).random((b, h * w)).argsort(axis=1)
    masks = [(ranks < round(share * h * w)).reshape(b, h, w, 1) for share in OBSERVED]
    method = "gaussian_process"

    def mean_psnr(candidate: float) -> float:
        completed = (complete_images(images, x, methods=[method], length_scale=candidate) for x in masks)
        errors = [np.square(answers[method] - images) for answers in completed]
        return float(-10.0 * np.log10(np.maximum(np.mean(errors, axis=(2, 3, 4)), 1e-10)).mean())

    return max(LENGTH_SCALES, key=mean_psnr)
