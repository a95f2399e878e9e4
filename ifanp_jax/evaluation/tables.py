"""Numbers as text: `Table`, for Markdown, CSV and the terminal, and the columns that tables have."""

import csv
import dataclasses
import pathlib
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ifanp_jax import files
from ifanp_jax.metrics import calibration, inpainting

TERMINAL_WIDTH = 80
SHOWN_LEVELS = (0.5, 0.8, 0.95)


class Column(NamedTuple):
    """A metric in a table.

    Attributes:
      title: of the column.
      metric: its name in a row; a row without it has an empty cell, and a table of such rows no such column.
      form: for `format`, such as ".2f".
      note: what it is; "" = the column before says it.
    """

    title: str
    metric: str
    form: str
    note: str = ""


GENERAL = (
    Column("PSNR (95 %)", "psnr", ".2f", "PSNR is in dB, of the raw prediction: the clipped mean of samples"),
    Column("completed (95 %)", "psnr_completed", ".2f", '"completed" keeps the observed pixels'),
    Column("unobserved", "psnr_unobserved", ".2f", '"unobserved" is the PSNR over the other pixels'),
    Column("classical", "best_classical", "", '"classical" is the best such method, observed pixels kept'),
    Column("MSE", "mse", ".4f"),
    Column("SSIM", "ssim", ".3f", "SSIM is that of the completed image"),
    Column("KL", "kl", ".3g", "KL is in nats, from q(z given the context) to q(z given the full image)"),
    Column("log p", "log_prob", ".3f", "Log p is in nats per value, importance-weighted by these samples"),
    Column("log p, image", "log_prob_per_image", ".0f"),
    Column("CRPS", "crps", ".4f", "CRPS is in intensities, over the unobserved pixels"),
    Column("in 50/80/95 %", "coverage", "", "The last column: share of unobserved values in these intervals"),
)  # fmt: skip
ROUNDS = (
    Column("one sample", "rounds_psnr_one", ".2f", "The first four are PSNR in dB, observed pixels kept"),
    Column("best", "rounds_psnr_best", ".2f"),
    Column("their mean", "rounds_psnr_mean", ".2f"),
    Column("direct", "rounds_psnr_direct", ".2f", '"direct" is the prediction without samples by rounds'),
    Column("energy score", "rounds_energy_score", ".4f", "The others are over the unobserved pixels"),
    Column("gradient energy", "rounds_gradient_ratio", ".2f", "The gradient energy of the truth is 1"),
    Column("gradient energy, direct", "rounds_gradient_ratio_direct", ".2f"),
    Column("rank correlation, heads", "rounds_rank_correlation", ".2f", "Ranks are of uncertainty and error"),
    Column("rank correlation, samples", "rounds_rank_correlation_samples", ".2f"),
    Column("log p", "rounds_log_prob", ".3f", "Joint log p is in nats per unobserved value"),
    Column("log p, one round", "rounds_log_prob_one", ".3f"),
)  # fmt: skip
_OF_HOLES = (
    ("PSNR (95 %)", "psnr", ".2f"), ("l1 %", "l1_percent", ".2f"), ("l2 %", "l2_percent", ".3f"),
    ("SSIM", "ssim", ".3f"), ("TV %", "tv_percent", ".2f"),
)  # fmt: skip
HOLES = (
    Column("images", "num_images", "d"),
    *(Column(f"hole {title}", f"hole_{name}", form) for title, name, form in _OF_HOLES),
    Column("hole texture", "hole_texture", ".2f"),
    *(Column(title, f"image_{name}", form) for title, name, form in _OF_HOLES),
    Column("LPIPS", "image_lpips", ".3f"),
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      head: names of the columns.
      rows: texts, as many each as `head`; for CSV numbers too.
      title: above it; "" = none.
      note: below it; "" = none.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""
    note: str = ""

    def markdown(self) -> list[str]:
        """Its lines in Markdown."""
        title = [f"**{self.title}**", ""] if self.title else []
        return [*title, *markdown_table(self.head, self.rows), *(["", self.note] if self.note else [])]

    def terminal(self) -> list[str]:
        """Its lines of at most 80 characters."""
        title = [*fill(f"{self.title}:"), ""] if self.title else []
        return [*title, *plain_table(self.head, self.rows), *(["", *fill(self.note)] if self.note else [])]

    def write_csv(self, path: pathlib.Path) -> None:
        """Writes head and rows, whole or not at all; None leaves a cell empty."""
        with files.replacing(path) as unfinished, unfinished.open("w", newline="") as file:
            csv.writer(file).writerows([self.head, *self.rows])


def markdown_page(caption: str, shown: Sequence[Table]) -> str:
    """A caption and tables below each other, in Markdown."""
    blocks = [[caption], *(table.markdown() for table in shown)]
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def terminal_page(caption: str, shown: Sequence[Table]) -> str:
    """The same in lines of at most 80 characters."""
    blocks = [fill(caption), *(table.terminal() for table in shown)]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of head and rows in Markdown."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def plain_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = TERMINAL_WIDTH
) -> list[str]:
    """The lines of a table for the terminal, in as many parts, one below the other, as its width asks for.

    The first column begins every part. A cell that is wider than a whole part goes on in the next line.

    Args:
      head: names of the columns.
      rows: texts, as many each as `head`.
      width: characters of a line.
    """
    first, *others = zip(head, *rows, strict=True)
    first_width = max(map(len, first))
    room = width - first_width - 1
    parts, used = [[]], 0
    for column in others:
        column_width = min(room, max(map(len, column)))
        if parts[-1] and used + column_width + 1 > width - first_width:
            parts.append([])
            used = 0
        parts[-1].append(_fit(column, column_width))
        used += column_width + 1
    lines = []
    for part in parts:
        lines += [""] if lines else []
        lines += _join_columns([[[text.ljust(first_width)] for text in first], *part])
    return lines


def _fit(column, width):
    """Every cell as lines of one width: a single one to the right, several to the left."""
    cells = [textwrap.wrap(text, width) or [""] for text in column]
    is_long = any(len(cell) > 1 for cell in cells)
    return [[line.ljust(width) if is_long else line.rjust(width) for line in cell] for cell in cells]


def _join_columns(columns):
    lines = []
    for cells in zip(*columns, strict=True):
        height = max(map(len, cells))
        filled = [cell + [" " * len(cell[0])] * (height - len(cell)) for cell in cells]
        lines += [" ".join(texts).rstrip() for texts in zip(*filled, strict=True)]
    return lines


def fill(text: str) -> list[str]:
    """The lines of a paragraph for the terminal."""
    return textwrap.wrap(text, TERMINAL_WIDTH, break_on_hyphens=False, break_long_words=False)


def tabulate(
    named: Sequence[tuple[str, dict]],
    columns: Sequence[Column],
    *,
    head: str,
    title: str = "",
    note: str = "",
) -> Table:
    """A table of the columns that some row has something for; notes of columns follow `note`.

    Args:
      named: text of the first column, and metrics by name, of each row.
      columns: to choose from.
      head: of the first column.
      title: above.
      note: below.
    """
    shown = [column for column in columns if any(column.metric in row for _, row in named)]
    texts = [[name, *(show(row, column) for column in shown)] for name, row in named]
    notes = [f"{column.note}." for column in shown if column.note]
    return Table(
        [head, *(column.title for column in shown)],
        texts,
        title=title,
        note=" ".join([note, *notes] if note else notes),
    )


def name_holes(rows: Sequence[dict], *, show_method: Callable[[str], str] = str) -> list[tuple[str, dict]]:
    """The rows of holes and, behind each, the same by the hole's share of the image; for `tabulate`.

    Args:
      rows: of all contexts; what has no method is the model's.
      show_method: its name -> text.
    """
    named = []
    for row in rows:
        if "hole_psnr" in row:
            name = f"{label(row)}, {show_method(row.get('method', 'model'))}"
            bins = [(f"{name}, holes of {one['bin']}", one) for one in row.get("bins", ())]
            named += [(name, row), *bins]
    return named


def show(row: dict, column: Column) -> str:
    """A number of a row as text, with its interval where the column has one; "" where the row has none."""
    value = row.get(column.metric)
    if value is None or isinstance(value, str):
        return value or ""
    if column.metric == "coverage":
        return "/".join(f"{value[calibration.LEVELS.index(level)]:.0%}" for level in SHOWN_LEVELS)
    text = format(value, column.form)
    if "95 %" not in column.title or f"{column.metric}_interval" not in row:
        return text
    low, high = (format(end, column.form) for end in row[f"{column.metric}_interval"])
    return f"{text} ({low}-{high})"


def label(row: dict) -> str:
    """What the tables call a context: its mask and observed share."""
    if row["mask"] == "uniform":
        return f"random 0-{row['fraction']:.0%}"
    return f"{row['mask']} {row['fraction']:.0%}"


def show_shape(evaluation: dict) -> str:
    """Height, width and channels, as "32x32x3"."""
    return "x".join(map(str, evaluation["image_shape"]))


def show_protocol(evaluation: dict) -> str:
    """Names the protocol, where one was asked for."""
    return f", protocol {evaluation['protocol']}" if evaluation["protocol"] else ""


def show_likelihood(evaluation: dict) -> str:
    """The likelihood and what bounds it, as "fixed, sigma 0.1"."""
    name = "sigma" if evaluation["likelihood"] == "fixed" else "sigma_floor"
    return f"{evaluation['likelihood']}, {name.replace('_', ' ')} {evaluation[name]}"


def explain_rounds(how: dict) -> str:
    """How samples by rounds were drawn: what `by_rounds.describe` says."""
    return (
        f"{how['num_samples']} samples were drawn by {how['rounds']} rounds for each of the first "
        f"{how['rounds_images']} images. Order and noise come from seed {how['seed']}."
    )


def explain_holes(missing: Sequence[str]) -> str:
    """What the metrics of holes are; `missing`: methods that need OpenCV, where it is not installed."""
    left_out = (
        f" Left out, for OpenCV is not installed (opencv-contrib-python-headless): {', '.join(missing)}."
    )
    return (
        "Numbers of holes are of the result rounded to 8 bits, observed pixels kept. l1 % and l2 % are 100 "
        "times the mean absolute and squared error; TV % is 100 times the mean difference of neighbours. "
        "Texture is the sliced Wasserstein distance of 5x5 patches, in 255ths. "
        f"{inpainting.SSIM_CONVENTION}{left_out if missing else ''}"
    )
