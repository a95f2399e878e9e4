"""What is measured of a method in a context, per image, and the row of means over images that tables show.

Metrics of holes (`metrics.inpainting`) are measured where the context is a hole. An image that has nothing to
measure, such as SSIM in a hole at the border, is left out of their means.
"""

import math

import jax
import numpy as np

from ifanp_jax import metrics
from ifanp_jax.evaluation.contexts import Context
from ifanp_jax.metrics import inpainting

PSNR_NAMES = ("psnr", "psnr_completed", "psnr_unobserved")
# Ratios of two means over images, by name: one image with hardly any energy would decide a mean of ratios.
RATIOS = {
    "rounds_gradient_ratio": ("rounds_gradient_energy", "rounds_gradient_energy_truth"),
    "rounds_gradient_ratio_direct": ("rounds_gradient_energy_direct", "rounds_gradient_energy_truth"),
}

Values = dict[str, np.ndarray]  # (N,) or (N, L) by metric, one row per image


def measure(
    prediction: jax.Array, image: jax.Array, mask: jax.Array, *, is_hole: bool
) -> dict[str, jax.Array]:
    """Metrics that any method has: three PSNRs in dB and the MSE, and those of holes; float32 (B,) each.

    Args:
      prediction: float32 (B, H, W, C) in [0, 1].
      image: float32 (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.
      is_hole: whether those of holes are measured.
    """
    found = {
        "psnr": metrics.psnr(prediction, image),
        "psnr_completed": metrics.psnr_completed(prediction, image, mask),
        "psnr_unobserved": metrics.psnr_unobserved(prediction, image, mask),
        "mse": metrics.mse(prediction, image),
    }
    return found | inpainting.measure(prediction, image, mask) if is_hole else found


def make_row(context: Context, values: Values, *, seed: int, **facts: object) -> dict[str, object]:
    """A row: `facts`, the context, and the means over images.

    Args:
      context: of these images.
      values: per image.
      seed: of the bootstrap.
      **facts: what else is to be said, such as the method.
    """
    row = facts | {"mask": context.kind, "fraction": context.fraction, "sha256": context.sha256}
    return row | summarise(values, seed=seed)


def summarise(values: Values, *, seed: int) -> dict[str, object]:
    """Means over images, RATIOS of them, and bootstrap 95 % intervals of PSNRs and of metrics of holes."""
    row = {}
    for name, value in values.items():
        if name in inpainting.NAMES:
            value = value[np.isfinite(value)]
        if not len(value):
            continue
        row[name] = value.mean(axis=0).tolist()
        if name in (*PSNR_NAMES, *inpainting.NAMES):
            row[f"{name}_interval"] = list(metrics.bootstrap_interval(value, seed=seed))
    for name, (upper, lower) in RATIOS.items():
        if row.get(lower):
            row[name] = row[upper] / row[lower]
    row["num_images"] = max(map(len, values.values()))
    return row


def by_area(context: Context, values: Values, *, seed: int) -> list[dict[str, object]]:
    """`summarise` for each of `HOLE_BINS` that some hole falls into; [] where all fall into one."""
    bins = inpainting.find_hole_bins(context.masks)
    if len(set(bins)) < 2:
        return []
    of_holes = {name: value for name, value in values.items() if name in inpainting.NAMES}
    return [
        {"bin": name} | summarise({key: value[bins == index] for key, value in of_holes.items()}, seed=seed)
        for index, name in enumerate(inpainting.HOLE_BINS)
        if (bins == index).any()
    ]


def name_values(context: Context, values: Values, *, method: str = "") -> Values:
    """The values of the model, or of another method, under their keys of `evaluation.npz`."""
    return {key_of(context, name, method=method): value for name, value in values.items()}


def key_of(context: Context, metric: str, *, method: str = "") -> str:
    """The key of a metric, such as "random 0.2 psnr" or "strokes hole_psnr by telea"."""
    return f"{context.name} {metric}" + (f" by {method}" if method else "")


def select_values(context: Context, archive: Values, *, method: str = "") -> Values:
    """What `name_values` put into an archive, by metric; {} where there is nothing of it."""
    found = {}
    for key, value in archive.items():
        name, _, of_method = key.partition(" by ")
        of_context, _, metric = name.rpartition(" ")
        if (of_context, of_method) == (context.name, method):
            found[metric] = value
    return found


def rows_of_context(rows: list[dict], cell: dict) -> list[dict]:
    """The rows in the context of a cell, anything with `mask` and `fraction`."""
    return [
        row for row in rows if row["mask"] == cell["mask"] and math.isclose(row["fraction"], cell["fraction"])
    ]


def best_classical(rows: list[dict], cell: dict) -> dict | None:
    """The row in the context of a cell with the highest `psnr_completed`; None where there is none."""
    return max(rows_of_context(rows, cell), key=lambda row: row["psnr_completed"], default=None)


def show_best(rows: list[dict], cell: dict) -> dict[str, str]:
    """What the column "classical" says of a cell, as "22.50 gaussian process"; {} where there is nothing."""
    best = best_classical(rows, cell)
    if best is None:
        return {}
    return {"best_classical": f"{best['psnr_completed']:.2f} {best['method'].replace('_', ' ')}"}
