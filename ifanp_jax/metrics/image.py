"""How far a completion is from the truth, per image: mean squared error, PSNR and SSIM.

Everything is pure and may be compiled. `prediction` and `image`, the truth, are float (B, H, W, C) with
intensities in [0, 1], so PSNR has peak 1; `mask` is bool (B, H, W, 1), True = observed. Another rank, shape
or dtype is an AssertionError. Answers are float32 (B,) where nothing else is said, PSNR in dB.

PSNR comes in three kinds that must not share a column: `psnr` of the raw prediction over the full image,
`psnr_completed` with the observed pixels put back, `psnr_unobserved` over the pixels the model had to invent.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

MIN_MSE = 1e-10  # floor under the logarithm
MAX_PSNR = 100.0  # dB, what the floor allows: 10 log10(1 / MIN_MSE)

SSIM_WINDOW = 11  # pixels
SSIM_SIGMA = 1.5  # pixels
SSIM_K1 = 0.01
SSIM_K2 = 0.03


def _check_images(prediction: chex.Array, image: chex.Array) -> None:
    chex.assert_rank([prediction, image], 4)
    chex.assert_equal_shape([prediction, image])
    chex.assert_type([prediction, image], float)


def _check_mask(mask: chex.Array, image: chex.Array) -> None:
    chex.assert_shape(mask, (*image.shape[:3], 1))
    chex.assert_type(mask, bool)


def _squared_error(prediction: chex.Array, image: chex.Array) -> chex.Array:
    return jnp.square(jnp.asarray(prediction, jnp.float32) - jnp.asarray(image, jnp.float32))


def _decibel(error: chex.Array) -> chex.Array:
    return -10.0 * jnp.log10(jnp.maximum(error, MIN_MSE))


def mse(prediction: chex.Array, image: chex.Array) -> chex.Array:
    """Mean squared error over all pixels and channels, squared intensities."""
    _check_images(prediction, image)
    return jnp.mean(_squared_error(prediction, image), axis=(1, 2, 3))


def masked_mse(prediction: chex.Array, image: chex.Array, counted: chex.Array) -> chex.Array:
    """Mean squared error over the pixels of `counted`, bool (B, H, W, 1); 0 where no pixel counts."""
    _check_images(prediction, image)
    _check_mask(counted, image)
    error = jnp.where(counted, _squared_error(prediction, image), 0.0)
    count = jnp.sum(counted, axis=(1, 2, 3), dtype=jnp.float32) * image.shape[-1]
    return jnp.sum(error, axis=(1, 2, 3)) / jnp.maximum(count, 1.0)


def keep_observed(prediction: chex.Array, image: chex.Array, mask: chex.Array) -> chex.Array:
    """The image where it is observed, the prediction elsewhere; float32 (B, H, W, C)."""
    _check_images(prediction, image)
    _check_mask(mask, image)
    return jnp.where(mask, jnp.asarray(image, jnp.float32), jnp.asarray(prediction, jnp.float32))


def psnr(prediction: chex.Array, image: chex.Array) -> chex.Array:
    """Peak signal-to-noise ratio of the raw prediction, 10 log10(1 / mse)."""
    return _decibel(mse(prediction, image))


def psnr_completed(prediction: chex.Array, image: chex.Array, mask: chex.Array) -> chex.Array:
    """PSNR over the full image after the observed pixels were put back."""
    return psnr(keep_observed(prediction, image, mask), jnp.asarray(image, jnp.float32))


def psnr_unobserved(prediction: chex.Array, image: chex.Array, mask: chex.Array) -> chex.Array:
    """PSNR over the unobserved pixels alone; MAX_PSNR where there are none."""
    _check_mask(mask, image)
    return _decibel(masked_mse(prediction, image, jnp.logical_not(mask)))


def _gaussian_band(side: int) -> np.ndarray:
    # Row p holds the window over p ... p + 10: a product with it filters one axis, valid positions only.
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    window = np.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    window /= window.sum()
    positions = side - SSIM_WINDOW + 1
    band = np.zeros((positions, side), np.float32)
    for position in range(positions):
        band[position, position : position + SSIM_WINDOW] = window
    return band


def ssim(prediction: chex.Array, image: chex.Array) -> chex.Array:
    """Structural similarity in [-1, 1], the mean of `ssim_map` over window positions and channels."""
    return jnp.mean(ssim_map(prediction, image), axis=(1, 2, 3))


def ssim_map(prediction: chex.Array, image: chex.Array) -> chex.Array:
    """Structural similarity at every valid position of the window.

    (2 mu_x mu_y + c1) (2 s_xy + c2) / ((mu_x^2 + mu_y^2 + c1) (s_xx + s_yy + c2)), c1 = K1^2, c2 = K2^2, with
    moments under an 11x11 Gaussian window of sigma 1.5: Wang, Bovik, Sheikh and Simoncelli, "Image quality
    assessment: from error visibility to structural similarity", 2004.

    Returns:
      float32 (B, H - 10, W - 10, C) in [-1, 1], at the windows' centres; 1 where they are equal.

    Raises:
      ValueError: the image is smaller than the window.
    """
    _check_images(prediction, image)
    _, h, w, _ = image.shape
    if min(h, w) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM got images of {h}x{w} pixels, but its window needs sides of at least {SSIM_WINDOW}: "
            "leave it out or use larger images."
        )
    # Moments about a constant near the data: float32 would lose the small variance of a bright, flat area.
    shift = jnp.mean(jnp.asarray(image, jnp.float32), axis=(1, 2), keepdims=True)
    x = jnp.asarray(prediction, jnp.float32) - shift
    y = jnp.asarray(image, jnp.float32) - shift
    moments = jnp.stack([x, y, x * x, y * y, x * y])  # (5, B, H, W, C)
    # Not a depthwise convolution, slow on CPU; and the default precision of GPU and TPU is too coarse.
    moments = jnp.einsum(
        "ph,sbhwc,qw->sbpqc",
        jnp.asarray(_gaussian_band(h)),
        moments,
        jnp.asarray(_gaussian_band(w)),
        precision=jax.lax.Precision.HIGHEST,
    )  # (5, B, H - 10, W - 10, C)
    mean_x, mean_y, square_x, square_y, product = moments
    variance_x = square_x - mean_x * mean_x
    variance_y = square_y - mean_y * mean_y
    covariance = product - mean_x * mean_y
    mean_x, mean_y = mean_x + shift, mean_y + shift
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2.0 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2.0 * covariance + c2) / (variance_x + variance_y + c2)
    return luminance * structure
