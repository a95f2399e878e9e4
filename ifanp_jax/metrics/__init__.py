"""How good and how honest a completion is, per image: (B,)."""

from ifanp_jax.metrics.image import (
    MAX_PSNR,
    MIN_MSE,
    SSIM_WINDOW,
    keep_observed,
    masked_mse,
    mse,
    psnr,
    psnr_completed,
    psnr_unobserved,
    ssim,
)
from ifanp_jax.metrics.intervals import bootstrap_interval
from ifanp_jax.metrics.samples import energy_score, gradient_energy

__all__ = [
    "MAX_PSNR",
    "MIN_MSE",
    "SSIM_WINDOW",
    "bootstrap_interval",
    "energy_score",
    "gradient_energy",
    "keep_observed",
    "masked_mse",
    "mse",
    "psnr",
    "psnr_completed",
    "psnr_unobserved",
    "ssim",
]
