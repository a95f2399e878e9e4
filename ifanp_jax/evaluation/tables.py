"""Numbers as text: captions, and tables in Markdown and for the terminal."""

import textwrap
from collections.abc import Sequence

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
    ("of direct", "rounds_gradient_ratio_direct", ".2f"),
    ("rank correlation, heads", "rounds_rank_correlation", ".2f"),
    ("samples", "rounds_rank_correlation_samples", ".2f"),
    ("log p", "rounds_log_prob", ".3f"),
    ("in one round", "rounds_log_prob_one", ".3f"),
)
NUM_PSNR_COLUMNS = 6  # the terminal takes these in one table and the others in a second one


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown.

    Args:
      head: names of the columns.
      rows: texts, as many each as `head`.
    """
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table for the terminal: the first column to the left, the others to the right.

    Args:
      head: names of the columns.
      rows: texts, as many each as `head`.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        " ".join(
            text.rjust(width) if position else text.ljust(width)
            for position, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]


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
    """What the numbers are, in a few sentences on one line."""
    cells, classical = evaluation["cells"], evaluation["classical"]
    first = cells[0] if cells else {}
    sentences = [
        f"{evaluation['model']} on {evaluation['data']} {show_shape(evaluation)}: step {evaluation['step']}, "
        f"{evaluation['num_parameters']:,} parameters, {first.get('num_images', 0)} held-out images"
        f"{show_protocol(evaluation)}",
        f"PSNR in dB of the raw prediction (clipped mean of {evaluation['num_samples']} samples)",
        "Completed: with observed pixels kept, and its 95 % interval",
        "Unobserved: over the other pixels",
    ]
    if classical:
        count = classical[0]["num_images"]
        sentences.append(f"Classical: best interpolation, completed, on the first {count} images")
    if "kl" in first:
        sentences.append("KL in nats")
    if "log_prob" in first:
        likelihood = f"likelihood {show_likelihood(evaluation)}, target {evaluation['target']}"
        sentences += [
            f"Log p in nats per value, importance-weighted with as many samples ({likelihood})",
            "Over unobserved pixels: CRPS in intensities, and the share of true values inside the central "
            "50, 80 and 95 % intervals",
        ]
    return ". ".join(sentences) + "."


def list_lines(evaluation: dict) -> list[str]:
    """The lines of `evaluation.md`: caption, table, every interpolation method, samples by rounds."""
    rows = evaluation["classical"]
    lines = [caption(evaluation), "", *markdown_table(COLUMNS, table_rows(evaluation))]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    if methods:
        body = []
        for cell in evaluation["cells"]:
            scores = {row["method"]: row for row in baselines.rows_of_cell(rows, cell)}
            body.append([label(cell), *(show(scores[method], "psnr_completed", ".2f") for method in methods)])
        lines += ["", "Interpolation, PSNR of the completed image in dB:", ""]
        lines += markdown_table(["context", *methods], body)
    has_rounds = any(ROUNDS_COLUMNS[0][1] in cell for cell in evaluation["cells"])
    return [*lines, "", *_rounds_lines(evaluation)] if has_rounds else lines


def rounds_caption(evaluation: dict) -> str:
    """What the numbers of the samples by rounds are, in a few sentences on one line."""
    how = evaluation["rounds"]
    num_images = min(how["rounds_images"], evaluation["cells"][0]["num_images"])
    return (
        f"Samples by rounds: {how['num_samples']} by {how['rounds']} rounds of each of the first "
        f"{num_images} held-out images. PSNR in dB, observed pixels kept: of one sample, the best, their "
        "mean, and the direct prediction. Over unobserved pixels: energy score in intensities; gradient "
        "energy of a sample and of the direct prediction, the truth's being 1; rank correlation of the "
        "uncertainty with the error, from the heads and from the samples. Joint log p in nats per "
        f"unobserved value: by {how['rounds']} rounds in one random order of the pixels, and in one round. "
        f"Order and noise from seed {how['seed']}."
    )


def _rounds_lines(evaluation):
    head = ["context", *(title for title, _, _ in ROUNDS_COLUMNS)]
    body = [
        [label(cell), *(show(cell, name, form) for _, name, form in ROUNDS_COLUMNS)]
        for cell in evaluation["cells"]
    ]
    return [rounds_caption(evaluation), "", *markdown_table(head, body)]


def print_table(evaluation: dict) -> None:
    """Prints caption and table in two parts that fit a terminal of 80 columns."""
    rows = table_rows(evaluation)
    print(textwrap.fill(caption(evaluation), TERMINAL_WIDTH, break_on_hyphens=False))
    for columns in (slice(0, NUM_PSNR_COLUMNS), slice(NUM_PSNR_COLUMNS, None)):
        names = [0, *range(len(COLUMNS))[columns]] if columns.start else range(len(COLUMNS))[columns]
        print()
        head = [COLUMNS[index] for index in names]
        print("\n".join(plain_table(head, [[row[index] for index in names] for row in rows])))
