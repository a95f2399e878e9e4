"""What inpainting tables hold, per image: l1 %, l2 %, PSNR, TV % and SSIM, over the image and in the hole.

All are taken of the composite (known pixels kept), rounded to 8 bits, in [0, 1]. With e = composite - truth:

- l1 % = 100 mean |e|, l2 % = 100 mean e^2, over pixels and channels;
- PSNR = 10 log10(1 / mean e^2), at most 100 dB;
- TV % = 100 (mean |dy| + mean |dx|) of the composite; in the hole, over the pairs with a pixel in it;
- SSIM: 11x11 Gaussian of sigma 1.5, valid positions, population covariance, K 0.01 and 0.03, mean over
  channels; in the hole, over the positions whose centre lies in it;
- texture, in the hole alone: `texture.texture_distance` of the patches centred in it (`measure_texture`);
- LPIPS, of the whole image alone: `lpips.lpips`, where its weights are installed and the image suits it.

NaN where there is nothing to measure: no hole, or for SSIM a side below 11 or no valid position centred in
the hole. Papers differ in these conventions: SSIM_CONVENTION is to be printed beside the numbers.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.metrics import lpips
from ifanp_jax.metrics.image import MIN_MSE, SSIM_WINDOW, ssim_map
from ifanp_jax.metrics.texture import texture_distance

SSIM_CONVENTION = (
    "SSIM: 11x11 Gaussian window, sigma 1.5, valid positions, population covariance, K 0.01 and 0.03, mean "
    "over channels, 8-bit composite."
)
# Whole image, then hole alone.
NAMES = (
    *(
        f"{part}_{name}"
        for part in ("image", "hole")
        for name in ("l1_percent", "l2_percent", "psnr", "tv_percent", "ssim")
    ),
    "hole_texture",
    "image_lpips",
)
HOLE_BINS = ("0-10 %", "10-20 %", "20-30 %", "30-40 %", "40-50 %", "50-60 %", "above 60 %")


def measure(prediction: jax.Array, image: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """All metrics of completions, over the whole image and in the hole alone.

    Args:
      prediction: float (B, H, W, C) in [0, 1]; known pixels are not read.
      image: float (B, H, W, C), the truth in [0, 1].
      mask: bool (B, H, W, 1), True = observed.

    Returns:
      NAMES, float32 (B,) each, but for "hole_texture"; "image_lpips" where it can be measured.

    Raises:
      AssertionError: a rank, shape or dtype differs from the above.
    """
    composite = round_composite(prediction, image, mask)
    image, hole = jnp.asarray(image, jnp.float32), ~jnp.asarray(mask)
    everywhere = jnp.ones_like(hole)
    error = composite - image
    is_small = min(image.shape[1:3]) < SSIM_WINDOW
    similarity = None if is_small else ssim_map(composite, image)
    margin = SSIM_WINDOW // 2
    found = {}
    for prefix, where in (("image_", everywhere), ("hole_", hole)):
        centres = where[:, margin:-margin, margin:-margin]
        square = masked_mean(jnp.square(error), where)
        found[f"{prefix}l1_percent"] = 100 * masked_mean(jnp.abs(error), where)
        found[f"{prefix}l2_percent"] = 100 * square
        found[f"{prefix}psnr"] = -10 * jnp.log10(jnp.maximum(square, MIN_MSE))
        found[f"{prefix}tv_percent"] = total_variation_percent(composite, where)
        found[f"{prefix}ssim"] = (
            jnp.full(len(image), jnp.nan) if is_small else masked_mean(similarity, centres)
        )
    if lpips.takes(image.shape):
        found["image_lpips"] = lpips.lpips(composite, image)
    return found


def measure_texture(prediction: np.ndarray, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Texture distance, float32 (B,), NaN where no whole patch is centred in the hole.

    Args:
      prediction: float (B, H, W, C) in [0, 1], on the host; known pixels are not read.
      image: float32 (B, H, W, C), the truth in [0, 1].
      mask: bool (B, H, W, 1), True = observed.
    """
    composites = np.asarray(round_composite(prediction, image, mask))
    found = [
        texture_distance(*one, ~known[..., 0]) for *one, known in zip(composites, image, mask, strict=True)
    ]
    return np.array(found, np.float32)


def round_composite(prediction: jax.Array, image: jax.Array, mask: jax.Array) -> jax.Array:
    """The image where it is observed, the prediction elsewhere, rounded to 8 bits.

    Args:
      prediction: float (B, H, W, C).
      image: float (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.

    Returns:
      float32 (B, H, W, C), multiples of 1/255 in [0, 1].
    """
    chex.assert_rank([prediction, image, mask], 4)
    chex.assert_equal_shape([prediction, image])
    chex.assert_type([prediction, image, mask], [float, float, bool])
    chex.assert_shape(mask, (*image.shape[:3], 1))
    composite = jnp.where(mask, image, prediction).astype(jnp.float32)
    return jnp.round(255 * jnp.clip(composite, 0, 1)) / 255


def masked_mean(values: jax.Array, where: jax.Array) -> jax.Array:
    """Mean of (B, h, w, C) over the pixels of `where`, bool (B, h, w, 1): float32 (B,), NaN without any."""
    count = jnp.sum(where, axis=(1, 2, 3), dtype=jnp.float32) * values.shape[-1]
    total = jnp.sum(jnp.where(where, values, 0), axis=(1, 2, 3))
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def total_variation_percent(composite: jax.Array, where: jax.Array) -> jax.Array:
    """100 (mean |dy| + mean |dx|) over neighbours of which at least one is in `where`.

    Args:
      composite: float (B, H, W, C), sides of at least 2.
      where: bool (B, H, W, 1), True = the pixel counts.

    Returns:
      float32 (B,), NaN for an image of which no pixel counts.
    """
    down = masked_mean(jnp.abs(jnp.diff(composite, axis=1)), where[:, 1:] | where[:, :-1])
    right = masked_mean(jnp.abs(jnp.diff(composite, axis=2)), where[:, :, 1:] | where[:, :, :-1])
    return 100 * (down + right)


def find_hole_bins(mask: np.ndarray) -> np.ndarray:
    """Which of HOLE_BINS each mask's hole fraction falls into; the lower bound belongs to a bin.

    Args:
      mask: bool (B, H, W, 1), True = observed.

    Returns:
      int (B,), indices of HOLE_BINS.
    """
    chex.assert_rank(mask, 4)
    chex.assert_type(mask, bool)
    holes = (~np.asarray(mask)).sum(axis=(1, 2, 3))
    # In whole numbers, so that exactly a tenth falls where it should.
    return np.minimum(10 * holes // (mask.shape[1] * mask.shape[2]), len(HOLE_BINS) - 1)
