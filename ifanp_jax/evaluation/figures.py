"""Arrays -> pictures."""

import dataclasses
import pathlib

import numpy as np

from ifanp_jax import files

UNOBSERVED_COLOUR = (0.85, 0.0, 0.75)  # magenta, which neither grey pictures nor faces hold
NUM_SAMPLES_SHOWN = 3
MAX_DEVIATION = 0.25  # intensities, the end of the scale of standard deviations in every figure
DEVIATION_COLOURS = "viridis"
CONTEXT_CAPTION = "Magenta pixels were not observed."
DEVIATION_CAPTION = (
    '"std" is the standard deviation of the prediction, in intensities from 0 to 1, on this scale in every '
    f"figure. {CONTEXT_CAPTION}"
)
# What a training may log: name, title of its panel.
TRAINING_PANELS = (
    ("loss", "loss"),
    ("generator_loss", "loss of the generator"),
    ("critic_loss", "loss of the critics"),
    ("psnr", "PSNR (dB)"),
    ("mse", "MSE"),
    ("kl", "KL (nats per image)"),
)
SPLIT_STYLES = {"train": ("training", "-"), "val": ("validation", "o--")}
CELL_INCHES = 0.95


@dataclasses.dataclass(frozen=True)
class Panel:
    """Completions of some images under one kind of context.

    Attributes:
      name: of the context.
      image: float (B, H, W, C) in [0, 1], the truth.
      mask: bool (B, H, W, 1), True = observed.
      samples: float (S, B, H, W, C); S at least `NUM_SAMPLES_SHOWN`.
      mean: float (B, H, W, C), the prediction.
      deviation: float (B, H, W, C), standard deviation of the prediction, intensities; None for a model that
        has one answer, which is shown instead of samples.
      num_rounds: by which the samples were drawn; 0 = by one pass.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray
    samples: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray | None
    num_rounds: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the pictures of a row."""
        if self.deviation is None:
            return "context", "answer", "truth"
        return "context", *(f"sample {k + 1}" for k in range(NUM_SAMPLES_SHOWN)), "mean", "std", "truth"


def show_context(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Paints unobserved pixels in `UNOBSERVED_COLOUR`.

    Args:
      image: float (H, W, C) in [0, 1], C = 1 or 3.
      mask: bool (H, W, 1), True = observed.

    Returns:
      float (H, W, 3).
    """
    return np.where(mask, np.broadcast_to(image, (*image.shape[:2], 3)), UNOBSERVED_COLOUR)


def draw_completions(path: str | pathlib.Path, panels: list[Panel], *, title: str = "") -> None:
    """Draws rows of test images under columns context, samples, mean, standard deviation, truth.

    Observed pixels are shown as observed. The standard deviation is the mean over channels, on one scale from
    0 to `MAX_DEVIATION` in every figure. Without one the columns are context, answer, truth.

    Args:
      path: of the PNG.
      panels: one for each kind of context, with equally many images.
      title: over the figure.
    """
    pyplot = _pyplot()
    num_images = len(panels[0].image)
    width, height = len(panels[0].columns) * CELL_INCHES, num_images * CELL_INCHES + 0.6
    num_across = min(2, len(panels))
    num_down = -(-len(panels) // num_across)
    figure = pyplot.figure(figsize=(width * num_across, height * num_down + 1))
    grid, bar = figure.subfigures(2, 1, height_ratios=(height * num_down, 0.6))
    subfigures = np.asarray(grid.subfigures(num_down, num_across, squeeze=False)).ravel()
    for subfigure, panel in zip(subfigures, panels, strict=False):
        _draw_panel(subfigure, panel, top=1 - 0.55 / height)
    if panels[0].deviation is None:
        bar.supxlabel(CONTEXT_CAPTION, fontsize=8)
    else:
        _draw_deviation_bar(figure, bar.add_axes((0.3, 0.55, 0.4, 0.25)))
    figure.suptitle(title, fontsize=9, y=1.0, va="bottom")
    _save(figure, path, dpi=130, bbox_inches="tight")


def _draw_deviation_bar(figure, axis):
    pyplot = _pyplot()
    deviations = pyplot.cm.ScalarMappable(pyplot.Normalize(0, MAX_DEVIATION), DEVIATION_COLOURS)
    figure.colorbar(deviations, cax=axis, orientation="horizontal", extend="max")
    axis.tick_params(labelsize=8)
    axis.set_xlabel(DEVIATION_CAPTION, fontsize=8)


def _draw_panel(subfigure, panel, *, top):
    num_images, columns = len(panel.image), panel.columns
    subfigure.suptitle(panel.name, fontsize=10)
    axes = subfigure.subplots(num_images, len(columns), squeeze=False)
    subfigure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=top, wspace=0.06, hspace=0.06)
    completed = np.where(panel.mask, panel.image, np.clip(panel.samples, 0, 1))
    mean = np.where(panel.mask, panel.image, np.clip(panel.mean, 0, 1))
    for row in range(num_images):
        pictures = [show_context(panel.image[row], panel.mask[row]), mean[row], panel.image[row]]
        if panel.deviation is not None:
            pictures[1:1] = completed[:NUM_SAMPLES_SHOWN, row]
            pictures[-1:-1] = [np.where(panel.mask[row], 0, panel.deviation[row]).mean(axis=-1)]
        for name, axis, picture in zip(columns, axes[row], pictures, strict=True):
            if name == "std":
                axis.imshow(
                    picture, vmin=0, vmax=MAX_DEVIATION, cmap=DEVIATION_COLOURS, interpolation="nearest"
                )
            else:
                axis.imshow(np.broadcast_to(picture, (*picture.shape[:2], 3)), interpolation="nearest")
            axis.set_axis_off()
            if row == 0:
                axis.set_title(name, fontsize=8)


def draw_training(
    path: str | pathlib.Path, rows: list[dict], *, loss_unit: str = "", caption: str = ""
) -> None:
    """Draws losses, PSNR, MSE and KL, where there are any, against steps, of training and of validation.

    Args:
      path: of the PNG.
      rows: of `metrics.jsonl`.
      loss_unit: of the loss.
      caption: what validation is, below the panels.
    """
    panels = [(name, title) for name, title in TRAINING_PANELS if any(f"train/{name}" in row for row in rows)]
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(
        1, max(1, len(panels)), figsize=(4 * max(1, len(panels)), 3.2), layout="constrained", squeeze=False
    )
    for axis, (name, title) in zip(axes[0], panels, strict=False):
        curves = {split: _curve(rows, f"{split}/{name}") for split in SPLIT_STYLES}
        for split, (label, style) in SPLIT_STYLES.items():
            if curves[split]:
                axis.plot(*zip(*curves[split], strict=True), style, markersize=3, linewidth=1.2, label=label)
        if name.endswith("loss"):
            _leave_out_first_losses(axis, [value for curve in curves.values() for _, value in curve])
        elif name != "psnr" and any(value > 0 for curve in curves.values() for _, value in curve):
            _use_log_scale(axis)
        axis.set_xlabel("step")
        axis.set_title(f"{title} ({loss_unit})" if name == "loss" and loss_unit else title, fontsize=10)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    if caption:
        figure.supxlabel(caption, fontsize=9)
    _save(figure, path, dpi=120)


def _curve(rows, name):
    return [(row["step"], row[name]) for row in rows if name in row]


def _use_log_scale(axis):
    """A logarithmic axis with plain numbers at 1, 2 and 5."""
    from matplotlib import ticker

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())


def _leave_out_first_losses(axis, losses):
    """Ends the axis below the losses of the first steps, which would flatten the rest."""
    low, high = np.percentile(losses, [0, 90])
    axis.set_ylim(low - 0.1 * (high - low + 1), high + 0.5 * (high - low + 1))


def draw_reliability(path: str | pathlib.Path, levels: list[float], coverage: dict[str, list[float]]) -> None:
    """Draws the share of true values inside each central interval against its nominal level.

    Args:
      path: of the PNG.
      levels: nominal probabilities in (0, 1).
      coverage: shares at these levels, by the name of the line.
    """
    figure, axis = _pyplot().subplots(figsize=(6.2, 4.2), layout="constrained")
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="calibrated")
    for name, shares in coverage.items():
        axis.plot(levels, shares, "o-", markersize=2.5, linewidth=1.2, label=name)
    options = {"fontsize": 8, "color": "0.4", "style": "italic"}
    axis.text(
        0.97, 0.03, "below the line: overconfident,\nintervals too narrow", ha="right", va="bottom", **options
    )
    axis.text(
        0.03, 0.97, "above the line: underconfident,\nintervals too wide", ha="left", va="top", **options
    )
    axis.set_xlabel("nominal probability of the central interval")
    axis.set_ylabel("share of unobserved values inside")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))  # beside: it would hide lines
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
    figure, axes = _pyplot().subplots(
        len(rows),
        len(columns),
        figsize=(len(columns) * CELL_INCHES, len(rows) * CELL_INCHES + 0.3),
        squeeze=False,
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
    figure, axis = _pyplot().subplots(figsize=(5.5, 3.6), layout="constrained")
    for name, points in curves.items():
        axis.plot(*zip(*points, strict=True), linewidth=1.2, label=name)
    axis.set_xlabel("step")
    axis.set_ylabel(label)
    axis.set_yscale("log")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    _save(figure, path, dpi=130)


def draw_curve_panels(
    path: str | pathlib.Path, panels: dict[str, dict[str, list[tuple[int, float]]]], *, num_across: int = 3
) -> None:
    """Draws one panel of lines against steps for each name; every line has an axis of its own.

    Args:
      path: of the PNG.
      panels: title -> name of a line -> (step, value); two lines at most.
      num_across: panels in a row.
    """
    num_across = min(num_across, len(panels))
    num_down = -(-len(panels) // num_across)
    size = (3.6 * num_across, 2.6 * num_down)
    figure, axes = _pyplot().subplots(num_down, num_across, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.ravel()[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, curves) in zip(axes.ravel(), panels.items(), strict=False):
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.grid(alpha=0.3)
        for one, colour, (name, points) in zip(
            (axis, axis.twinx()), ("tab:blue", "tab:red"), curves.items(), strict=False
        ):
            one.plot(*zip(*points, strict=True), linewidth=1.0, color=colour)
            one.set_ylabel(name, fontsize=8, color=colour)
            one.tick_params(labelsize=7)
    _save(figure, path, dpi=120)


def _save(figure, path, **options):
    with files.replacing(pathlib.Path(path)) as unfinished:
        figure.savefig(unfinished, **options)
    _pyplot().close(figure)


def _pyplot():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot

    return matplotlib.pyplot
