"""Numbers as text: captions, and tables in Markdown and for the terminal."""

import textwrap
from collections.abc import Sequence

from ifanp_jax import metrics
from ifanp_jax.evaluation import baselines
from ifanp_jax.metrics import calibration

TERMINAL_WIDTH = 80
SHOWN_LEVELS = (0.5, 0.8, 0.95)
COLUMNS = (
    "context", "PSNR", "completed", "95 %", "unobserved", "classical", "MSE", "SSIM", "KL", "log p", "CRPS",
    "in 50/80/95 %",
)  # fmt: skip
# Columns of the table of samples by rounds: title, metric, form.
ROUNDS_COLUMNS = (
    ("one sample", "rounds_psnr_one", ".2f"),
    ("best", "rounds_psnr_best", ".2f"),
    ("their mean", "rounds_psnr_mean", ".2f"),
    ("direct", "rounds_psnr_direct", ".2f"),
    ("energy score", "rounds_energy_score", ".4f"),
    ("gradient energy", "rounds_gradient_ratio", ".2f"),
    ("gradient energy, direct", "rounds_gradient_ratio_direct", ".2f"),
    ("rank correlation, heads", "rounds_rank_correlation", ".2f"),
    ("rank correlation, samples", "rounds_rank_correlation_samples", ".2f"),
    ("log p", "rounds_log_prob", ".3f"),
    ("log p, one round", "rounds_log_prob_one", ".3f"),
)
# What `COLUMNS` and `ROUNDS_COLUMNS` show of a cell; the rest is named below the tables.
SHOWN = {
    "mask", "fraction", "num_images", "psnr", "psnr_completed", "psnr_completed_interval", "psnr_unobserved",
    "mse", "ssim", "kl", "log_prob", "crps", "coverage", *(name for _, name, _ in ROUNDS_COLUMNS),
}  # fmt: skip


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown.

    Args:
      head: names of the columns.
      rows: texts, as many each as `head`.
    """
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


def show(row: dict, name: str, form: str) -> str:
    """A metric of a row as text; "" where the model has none.

    Args:
      row: metrics by name.
      name: of the metric.
      form: for `format`, such as ".2f".
    """
    return format(row[name], form) if name in row else ""


def label(cell: dict) -> str:
    """What the tables call a cell: its mask and observed share."""
    if cell["mask"] == "uniform":
        return f"random 0-{cell['fraction']:.0%}"
    return f"{cell['mask']} {cell['fraction']:.0%}"


def show_shape(evaluation: dict) -> str:
    """Height, width and channels, as "32x32x3"."""
    return "x".join(map(str, evaluation["image_shape"]))


def show_protocol(evaluation: dict) -> str:
    """Names the protocol, where one was asked for."""
    return f", protocol {evaluation['protocol']}" if evaluation["protocol"] else ""


def show_best_classical(rows: list[dict], cell: dict) -> str:
    """PSNR of the completed image and name of the best interpolation of a cell; "" where there is none.

    Args:
      rows: from `baselines.evaluate_classical`.
      cell: anything with `mask` and `fraction`.
    """
    best = baselines.best_classical(rows, cell)
    return f"{best['psnr_completed']:.2f} {best['method'].replace('_', ' ')}" if best else ""


def show_coverage(cell: dict) -> str:
    """Shares of true values inside the central intervals of `SHOWN_LEVELS`, as "49%/78%/93%"; "" for none."""
    if "coverage" not in cell:
        return ""
    shares = (cell["coverage"][calibration.LEVELS.index(level)] for level in SHOWN_LEVELS)
    return "/".join(f"{share:.0%}" for share in shares)


def show_likelihood(evaluation: dict) -> str:
    """The likelihood and what bounds it, as "fixed, sigma 0.1"."""
    name = "sigma" if evaluation["likelihood"] == "fixed" else "sigma_floor"
    return f"{evaluation['likelihood']}, {name.replace('_', ' ')} {evaluation[name]}"


def table_rows(evaluation: dict) -> list[list[str]]:
    """The cells of the table as text, under `COLUMNS`; what a model does not answer is empty."""
    rows = []
    for cell in evaluation["cells"]:
        low, high = cell["psnr_completed_interval"]
        rows.append(
            [
                label(cell),
                show(cell, "psnr", ".2f"),
                show(cell, "psnr_completed", ".2f"),
                f"{low:.2f}-{high:.2f}",
                show(cell, "psnr_unobserved", ".2f"),
                show_best_classical(evaluation["classical"], cell),
                show(cell, "mse", ".4f"),
                show(cell, "ssim", ".3f"),
                show(cell, "kl", ".3g"),
                show(cell, "log_prob", ".3f"),
                show(cell, "crps", ".4f"),
                show_coverage(cell),
            ]
        )
    return rows


def caption(evaluation: dict) -> str:
    """What the numbers are, in sentences on one line."""
    cells = evaluation["cells"]
    count = cells[0]["num_images"] if cells else evaluation["held_out_images"]["num_images"]
    sentences = [
        f"{evaluation['model']} on {evaluation['data']} {show_shape(evaluation)} was measured at step "
        f"{evaluation['step']}, with {evaluation['num_parameters']:,} parameters, on {count} held-out images"
        f"{show_protocol(evaluation)}",
    ]
    return ". ".join([*sentences, *(_explain(evaluation, cells[0]) if cells else [])]) + "."


def _explain(evaluation, first):
    """What the columns are, and why one is empty; `first` is a cell."""
    classical = evaluation["classical"]
    sentences = [
        "PSNR is in dB and that of the raw prediction, the clipped mean of "
        f"{evaluation['num_samples']} samples",
        '"completed" keeps the observed pixels, and "95 %" is its interval over the images',
        '"unobserved" is the PSNR over the other pixels',
    ]
    if classical:
        sentences.append(
            '"classical" is the best interpolation, its observed pixels kept, on the first '
            f"{classical[0]['num_images']} images"
        )
    if "ssim" not in first:
        sentences.append(f"SSIM is empty: it needs at least {metrics.SSIM_WINDOW} pixels on both sides")
    sentences.append("KL is in nats" if "kl" in first else "KL is empty: the model has no latent variable")
    if "log_prob" in first:
        likelihood = f"likelihood {show_likelihood(evaluation)}, target {evaluation['target']}"
        sentences += [
            f"Log p is in nats per value, importance-weighted with as many samples ({likelihood})",
            "CRPS is in intensities, over the unobserved pixels",
            "The last column is the share of unobserved values inside the central 50, 80 and 95 % intervals",
        ]
    else:
        sentences.append("Log p, CRPS and the last column are empty: the model has no scale")
    return sentences


def rest(evaluation: dict) -> str:
    """A sentence that names the metrics which no table shows; "" where there are none."""
    names = {name for cell in evaluation["cells"] for name in cell} - SHOWN
    return f"More metrics stand in evaluation.json: {', '.join(sorted(names))}." if names else ""


def list_lines(evaluation: dict) -> list[str]:
    """The lines of `evaluation.md`: caption, table, every interpolation method, samples by rounds."""
    if not evaluation["cells"]:
        return [caption(evaluation)]
    lines = [caption(evaluation), "", *markdown_table(COLUMNS, table_rows(evaluation))]
    for title, head, body in _more_tables(evaluation):
        lines += ["", title, "", *markdown_table(head, body)]
    return lines + (["", rest(evaluation)] if rest(evaluation) else [])


def _more_tables(evaluation):
    """Title, head and rows of the tables that only some evaluations have."""
    rows = evaluation["classical"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    if methods:
        body = []
        for cell in evaluation["cells"]:
            scores = {row["method"]: row for row in baselines.rows_of_cell(rows, cell)}
            body.append([label(cell), *(show(scores[method], "psnr_completed", ".2f") for method in methods)])
        yield "Every interpolation, PSNR of the completed image in dB:", ["context", *methods], body
    if any(ROUNDS_COLUMNS[0][1] in cell for cell in evaluation["cells"]):
        head = ["context", *(title for title, _, _ in ROUNDS_COLUMNS)]
        body = [
            [label(cell), *(show(cell, name, form) for _, name, form in ROUNDS_COLUMNS)]
            for cell in evaluation["cells"]
        ]
        yield rounds_caption(evaluation), head, body


def rounds_caption(evaluation: dict) -> str:
    """What the numbers of the samples by rounds are, in a few sentences on one line."""
    how = evaluation["rounds"]
    num_images = min(how["rounds_images"], evaluation["cells"][0]["num_images"])
    return (
        f"Samples by rounds: {how['num_samples']} were drawn by {how['rounds']} rounds for each of the first "
        f"{num_images} held-out images. The first four columns are PSNR in dB, observed pixels kept, of one "
        "sample, the best, their mean, and the direct prediction. The next three are over unobserved pixels: "
        "energy score in intensities, and gradient energy of a sample and of the direct prediction, the "
        "truth's being 1. Rank correlations are those of the uncertainty with the error, from the heads and "
        "from the samples. Joint log p is in nats per unobserved value, by "
        f"{how['rounds']} rounds in one random order of the pixels, and in one round. "
        f"Order and noise come from seed {how['seed']}."
    )


def terminal_lines(evaluation: dict) -> list[str]:
    """The same tables as in `evaluation.md`, in lines of 80 characters."""
    if not evaluation["cells"]:
        return fill(caption(evaluation))
    lines = [*fill(caption(evaluation)), "", *plain_table(COLUMNS, table_rows(evaluation))]
    for title, head, body in _more_tables(evaluation):
        lines += ["", *fill(title), "", *plain_table(head, body)]
    return lines + (["", *fill(rest(evaluation))] if rest(evaluation) else [])


def print_table(evaluation: dict) -> None:
    """Prints `terminal_lines`."""
    print("\n".join(terminal_lines(evaluation)))
