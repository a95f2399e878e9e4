"""Arrays -> pictures."""

import pathlib

import numpy as np

from ifanp_jax import files

UNOBSERVED_COLOUR = (0.85, 0.0, 0.75)  # magenta, which neither grey pictures nor faces hold
NUM_SAMPLES_SHOWN = 3


def show_context(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Paints unobserved pixels in `UNOBSERVED_COLOUR`.

    Args:
      image: float (H, W, C) in [0, 1], C = 1 or 3.
      mask: bool (H, W, 1), True = observed.

    Returns:
      float (H, W, 3).
    """
    return np.where(mask, np.broadcast_to(image, (*image.shape[:2], 3)), UNOBSERVED_COLOUR)


def draw_completions(path: str | pathlib.Path, panels: list[tuple], *, title: str = "") -> None:
    """Draws rows of test images under columns context, samples, mean, standard deviation, truth.

    Args:
      path: of the PNG.
      panels: (name, image (B, H, W, C), mask (B, H, W, 1), samples (S, B, H, W, C), uncertainty
        (B, H, W, C)) each; observed pixels are shown as observed.
      title: over the figure.
    """
    figure_module = _pyplot()
    num_images = panels[0][1].shape[0]
    columns = ["context", *(f"sample {k + 1}" for k in range(NUM_SAMPLES_SHOWN)), "mean", "std", "truth"]
    panel_width, panel_height = len(columns) * 0.95, num_images * 0.95 + 0.6
    num_across = 2 if len(panels) > 1 else 1
    num_down = -(-len(panels) // num_across)
    figure = figure_module.figure(figsize=(panel_width * num_across, panel_height * num_down + 0.4))
    subfigures = np.asarray(figure.subfigures(num_down, num_across, squeeze=False)).ravel()
    for subfigure, (name, image, mask, samples, uncertainty) in zip(subfigures, panels, strict=False):
        subfigure.suptitle(name, fontsize=10)
        axes = subfigure.subplots(num_images, len(columns), squeeze=False)
        subfigure.subplots_adjust(
            left=0.01, right=0.99, bottom=0.01, top=1 - 0.55 / panel_height, wspace=0.06, hspace=0.06
        )
        completed = np.where(mask, image, np.clip(samples, 0, 1))
        # One scale per panel, so that rows can be compared; a few extreme pixels must not darken the rest.
        hidden = uncertainty[np.broadcast_to(~mask, uncertainty.shape)]
        low, high = np.percentile(hidden, [0, 99]) if hidden.size else (0, 1)
        shown = np.clip((uncertainty - low) / max(high - low, 1e-6), 0, 1)
        for row in range(num_images):
            pictures = [
                show_context(image[row], mask[row]),
                *completed[:NUM_SAMPLES_SHOWN, row],
                np.where(mask[row], image[row], np.clip(samples[:, row].mean(axis=0), 0, 1)),
                np.where(mask[row], 0, shown[row]).mean(axis=-1, keepdims=True),
                image[row],
            ]
            for column, (axis, picture) in enumerate(zip(axes[row], pictures, strict=True)):
                axis.imshow(
                    np.broadcast_to(picture, (*picture.shape[:2], 3)), vmin=0, vmax=1, interpolation="nearest"
                )
                axis.set_axis_off()
                if row == 0:
                    axis.set_title(columns[column], fontsize=8)
    figure.suptitle(title, fontsize=9, y=1.0, va="bottom")
    _save(figure, path, dpi=130, bbox_inches="tight")


def draw_training(path: str | pathlib.Path, rows: list[dict]) -> None:
    """Draws loss, MSE and KL against steps.

    Args:
      path: of the PNG.
      rows: of `metrics.jsonl`.
    """
    figure_module = _pyplot()
    figure, axes = figure_module.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    for axis, (name, label) in zip(
        axes, (("loss", "loss (nats per image)"), ("mse", "MSE"), ("kl", "KL (nats per image)")), strict=True
    ):
        is_positive = False
        for split, style in (("train", "-"), ("val", "o--")):
            points = [(row["step"], row[f"{split}/{name}"]) for row in rows if f"{split}/{name}" in row]
            if points:
                axis.plot(*zip(*points, strict=True), style, markersize=3, linewidth=1.2, label=split)
                is_positive |= any(value > 0 for _, value in points)
        axis.set_xlabel("step")
        axis.set_title(label, fontsize=10)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
        if name == "loss":
            losses = [row["train/loss"] for row in rows if "train/loss" in row]
            if losses:  # the first steps would flatten the rest
                low, high = np.percentile(losses, [0, 90])
                axis.set_ylim(low - 0.1 * (high - low + 1), high + 0.5 * (high - low + 1))
        elif is_positive:  # a model without z has no KL
            axis.set_yscale("log")
    _save(figure, path, dpi=120)


def draw_reliability(path: str | pathlib.Path, levels: list[float], coverage: dict[str, list[float]]) -> None:
    """Draws the share of true values inside each central interval against its nominal level.

    Args:
      path: of the PNG.
      levels: nominal probabilities in (0, 1).
      coverage: shares at these levels, by the name of the line.
    """
    figure_module = _pyplot()
    figure, axis = figure_module.subplots(figsize=(4.6, 4.2), layout="constrained")
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="calibrated")
    for name, shares in coverage.items():
        axis.plot(levels, shares, "o-", markersize=2.5, linewidth=1.2, label=name)
    axis.set_xlabel("nominal probability of the central interval")
    axis.set_ylabel("share of unobserved values inside")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    _save(figure, path, dpi=120)


def draw_grid(
    path: str | pathlib.Path,
    rows: list[list[np.ndarray]],
    columns: list[str],
    *,
    labels: list[str] | None = None,
) -> None:
    """Draws pictures in rows under named columns.

    Args:
      path: of the PNG.
      rows: float (H, W, 1 or 3) in [0, 1] each, as many as `columns`.
      columns: names; "" = none.
      labels: names of the rows.
    """
    figure_module = _pyplot()
    figure, axes = figure_module.subplots(
        len(rows), len(columns), figsize=(len(columns) * 0.95, len(rows) * 0.95 + 0.3), squeeze=False
    )
    figure.subplots_adjust(left=0.06 if labels else 0.01, right=0.99, bottom=0.01, wspace=0.06, hspace=0.06)
    for index, row in enumerate(rows):
        for axis, picture, name in zip(axes[index], row, columns, strict=True):
            shown = np.broadcast_to(np.clip(picture, 0, 1), (*picture.shape[:2], 3))
            axis.imshow(shown, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if index == 0:
                axis.set_title(name, fontsize=7)
        if labels:
            axes[index, 0].set_ylabel(labels[index], fontsize=7)
    _save(figure, path, dpi=130, bbox_inches="tight")


def draw_curves(path: str | pathlib.Path, curves: dict[str, list[tuple[int, float]]], *, label: str) -> None:
    """Draws one line per name against steps, the vertical axis logarithmic.

    Args:
      path: of the PNG.
      curves: (step, value) by name.
      label: of the vertical axis.
    """
    figure_module = _pyplot()
    figure, axis = figure_module.subplots(figsize=(5.5, 3.6), layout="constrained")
    for name, points in curves.items():
        axis.plot(*zip(*points, strict=True), linewidth=1.2, label=name)
    axis.set_xlabel("step")
    axis.set_ylabel(label)
    axis.set_yscale("log")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    _save(figure, path, dpi=130)


def _save(figure, path, **options):
    with files.replacing(pathlib.Path(path)) as unfinished:
        figure.savefig(unfinished, **options)
    _pyplot().close(figure)


def _pyplot():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot

    return matplotlib.pyplot
