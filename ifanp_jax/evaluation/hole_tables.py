"""The numbers of completed holes as text."""

from collections.abc import Sequence

from ifanp_jax.evaluation import tables
from ifanp_jax.metrics import inpainting

# Title, metric and form of each column, over the whole image and, with "hole_" before it, in the hole alone.
COLUMNS = (
    ("l1 %", "l1_percent", ".2f"),
    ("l2 %", "l2_percent", ".3f"),
    ("PSNR", "psnr", ".2f"),
    ("TV %", "tv_percent", ".2f"),
    ("SSIM", "ssim", ".3f"),
)
TERMINAL_COLUMNS = ("hole", "method", "images", "PSNR", "95 %", "in hole", "95 %", "SSIM", "l1 %")
TERMINAL_ENDS = (("hole_ssim", ".3f"), ("hole_l1_percent", ".2f"))


def show_interval(row: dict, name: str, form: str) -> str:
    """A metric with its interval, as "12.34 (12.00-12.70)"; "" where there is none.

    Args:
      row: metrics by name.
      name: of the metric.
      form: for `format`.
    """
    if name not in row:
        return ""
    low, high = (format(end, form) for end in row[f"{name}_interval"])
    return f"{row[name]:{form}} ({low}-{high})"


def list_lines(evaluation: dict) -> list[str]:
    """The lines that `evaluation.md` has of holes: caption, tables, and the same by area; [] without them.

    Args:
      evaluation: from `evaluate.evaluate`.
    """
    found = evaluation.get("holes")
    if not found:
        return []
    rows = found["rows"] + found["finished"] + found["classical"]
    lines = [caption(found), ""]
    for prefix, title in (("", "Whole image"), ("hole_", "Hole only")):
        lines += [f"**{title}**", "", *list_table(rows, prefix), ""]
    bins = [
        row | {"hole": f"{of_kind['hole']}, {row['bin']}", "method": of_kind["method"]}
        for of_kind in found["rows"]
        for row in of_kind["bins"]
    ]
    if bins:
        lines += ["**Hole only, by the hole's share of the image**", "", *list_table(bins, "hole_"), ""]
    return lines[:-1]


def list_table(rows: Sequence[dict], prefix: str) -> list[str]:
    """A table in Markdown.

    Args:
      rows: from `hole_values.make_row`.
      prefix: of the metrics, "" or "hole_".
    """
    head = ["hole", "method", "images", *(title for title, _, _ in COLUMNS)]
    return tables.markdown_table(
        head,
        [
            [
                row["hole"],
                row["method"],
                str(row["num_images"]),
                *(show_interval(row, prefix + name, form) for _, name, form in COLUMNS),
            ]
            for row in rows
        ],
    )


def caption(found: dict) -> str:
    """What the numbers are, in a few sentences on one line.

    Args:
      found: `evaluation["holes"]`.
    """
    names = list(
        dict.fromkeys(
            f"{row['hole']} {row['sha256'][:12]} ({row['hole_fraction']:.0%} hidden)" for row in found["rows"]
        )
    )
    missing = ""
    if found["missing"]:
        missing = (
            f" Left out, for OpenCV is not installed (opencv-python-headless): {', '.join(found['missing'])}."
        )
    return (
        "Holes, with known pixels kept and the result rounded to 8 bits; 95 % intervals over images. Masks: "
        f"{', '.join(names)}: kind, and the first digits of the hash of `holes.npz`'s masks. l1 % and l2 % "
        "are 100 times the mean absolute and squared error; TV % is 100 times the mean difference of "
        f"neighbours, of the result. {inpainting.SSIM_CONVENTION}{missing}"
    )


def print_table(evaluation: dict) -> None:
    """Prints caption and a table that fits a terminal of 80 columns; nothing without holes.

    Args:
      evaluation: from `evaluate.evaluate`.
    """
    found = evaluation.get("holes")
    if not found:
        return
    body = []
    for row in found["rows"] + found["finished"] + found["classical"]:
        texts = [row["hole"], row["method"].rpartition(".")[2], str(row["num_images"])]
        for name in ("psnr", "hole_psnr"):
            mean, _, interval = show_interval(row, name, ".2f").partition(" ")
            texts += [mean, interval.strip("()")]
        body.append([*texts, *(tables.show(row, name, form) for name, form in TERMINAL_ENDS)])
    lines = tables.fill(f"{caption(found)} SSIM and l1 % here: in the hole.")
    print("\n".join(["", *lines, "", *tables.plain_table(TERMINAL_COLUMNS, body)]))
