"""Metrics per image that any method has, and their means over images."""

import jax
import numpy as np

from ifanp_jax import metrics

PSNR_NAMES = ("psnr", "psnr_completed", "psnr_unobserved")
# Ratios of two means over images, by name: one image with hardly any energy would decide a mean of ratios.
RATIOS = {
    "rounds_gradient_ratio": ("rounds_gradient_energy", "rounds_gradient_energy_truth"),
    "rounds_gradient_ratio_direct": ("rounds_gradient_energy_direct", "rounds_gradient_energy_truth"),
}


def measure(prediction: jax.Array, image: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """Three PSNRs in dB and the MSE, float32 (B,) each.

    Args:
      prediction: float32 (B, H, W, C) in [0, 1].
      image: float32 (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.
    """
    return {
        "psnr": metrics.psnr(prediction, image),
        "psnr_completed": metrics.psnr_completed(prediction, image, mask),
        "psnr_unobserved": metrics.psnr_unobserved(prediction, image, mask),
        "mse": metrics.mse(prediction, image),
    }


def summarise(values: dict[str, np.ndarray], *, seed: int) -> dict[str, object]:
    """Means over images, RATIOS of them, and a bootstrap 95 % interval for each PSNR as `<name>_interval`.

    Args:
      values: (N,) or (N, L) by name, one row per image.
      seed: of the bootstrap.
    """
    cell = {}
    for name, value in values.items():
        cell[name] = value.mean(axis=0).tolist()
        if name in PSNR_NAMES:
            cell[f"{name}_interval"] = list(metrics.bootstrap_interval(value, seed=seed))
    for name, (upper, lower) in RATIOS.items():
        if cell.get(lower):
            cell[name] = cell[upper] / cell[lower]
    cell["num_images"] = len(values["psnr"])
    return cell
