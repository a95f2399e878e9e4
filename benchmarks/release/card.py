"""The card of a shipped model: sections that a person writes, and a part that is measured.

What stands between `BEGIN` and `END` is written by `fill`; the rest is left as it is.
"""

import pathlib
import shlex
import textwrap
from typing import Any

from ifanp_jax import files
from ifanp_jax.errors import UserError, first_line
from ifanp_jax.evaluation import tables

BEGIN = "<!-- written by python -m benchmarks.release: begin -->"
END = "<!-- written by python -m benchmarks.release: end -->"
HEADINGS = ("What it is for", "What it is not for", "How it was trained", "Data", "Licence")
COLUMNS = (
    ("PSNR, completed", "psnr_completed", ".2f"),
    ("unobserved", "psnr_unobserved", ".2f"),
    ("SSIM", "ssim", ".3f"),
    ("CRPS", "crps", ".4f"),
    ("log p", "log_prob", ".3f"),
    ("rank correlation", "rounds_rank_correlation", ".2f"),
)


def read(path: pathlib.Path, *, licence: str) -> str:
    """Reads a card and checks that a person has written its sections.

    Args:
      path: of the card.
      licence: of the weights, which the card must name.

    Raises:
      UserError: when it is missing, or lacks a section, the place of the measured part, or the licence.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"The card {path} cannot be read ({first_line(error)}); write one with the headings "
            f"{', '.join(HEADINGS)} and the lines {BEGIN!r} and {END!r}."
        ) from None
    missing = [f"## {heading}" for heading in HEADINGS if f"\n## {heading}\n" not in text]
    missing += [line for line in (BEGIN, END) if f"\n{line}\n" not in text]
    if missing or text.index(BEGIN) > text.index(END):
        raise UserError(f"The card {path} lacks the line {(missing or [BEGIN])[0]!r}; write it.")
    if licence not in text.partition("\n## Licence\n")[2]:
        raise UserError(f"The card {path} does not name the licence {licence!r} under Licence; write it.")
    return text


def fill(path: pathlib.Path, values: dict[str, Any]) -> None:
    """Writes the measured part of a card."""
    text = read(path, licence=values["licence"])
    before, _, rest = text.partition(f"\n{BEGIN}\n")
    _, _, after = f"\n{rest}".partition(f"\n{END}\n")  # nothing stands between the lines at first
    lines = [BEGIN, "", *list_lines(values), "", END]
    files.write_whole(path, "\n".join([before, *lines, after]))


def list_lines(values: dict[str, Any]) -> list[str]:
    """The lines of the measured part: results, facts, and the command."""
    rows, evaluate = values["validation"], values["config"]["evaluate"]
    columns = [column for column in COLUMNS if any(column[1] in row for row in rows)]
    head = ["context", "n", *(title for title, _, _ in columns), "best classical"]
    body = [
        [
            tables.label({"mask": row["mask"], "fraction": row["observed"]}),
            str(row["num_images"]),
            *(format(row[name], form) if name in row else "" for _, name, form in columns),
            _show_classical(row),
        ]
        for row in rows
    ]
    notes = [
        f"The evaluation of step {values['step']} on held-out images, which the training did not see.",
        f"PSNR in dB of the mean of {evaluate['num_samples']} samples.",
        "Completed: observed pixels kept.",
        "Unobserved: over the other pixels alone.",
    ]
    if any("rounds_num_images" in row for row in rows):
        counted = max(row.get("rounds_num_images", 0) for row in rows)
        notes.append(f"Rank correlation: of the uncertainty with the true error, on {counted} of the images.")
    if any("classical" in row for row in rows):
        counted = max(row.get("classical_num_images", 0) for row in rows)
        notes.append(f"Best classical: PSNR, completed, of the best interpolation on {counted} images.")
    return [
        "## Results",
        "",
        *textwrap.wrap(" ".join(notes), 110),
        "",
        *tables.markdown_table(head, body),
        "",
        "## Facts",
        "",
        *tables.markdown_table(["what", "value"], _list_facts(values)),
        "",
        "## The command that trains it again",
        "",
        "```",
        *_wrap_command(values["command"]),
        "```",
    ]


def _show_classical(row):
    if "classical" not in row:
        return ""
    return f"{row['classical_psnr_completed']:.2f} {row['classical'].replace('_', ' ')}"


def _list_facts(values):
    change = values["rounding"]
    storage = values["dtype"]
    if change:
        storage += (
            f"; float16 changes a completed value by at most {change['largest']:.6f}, and the PSNR of "
            f"{change['num_images']} images from {change['psnr']:.4f} to {change['psnr_stored']:.4f} dB"
        )
    return [
        ["model", f"`{values['config']['model']['name']}`, {int(values['num_parameters']):,} parameters"],
        ["training images", f"{'x'.join(map(str, values['image_shape']))}, {values['crop']}"],
        ["data", values["data"]],
        ["range", values["range"]],
        ["least standard deviation", values["sigma_floor"]],
        ["steps", f"{int(values['step']):,} of {values['config']['train']['batch_size']} images"],
        ["seed", values["seed"]],
        ["commit", values["commit"]],
        ["stored in", storage],
        ["SHA-256", f"`{values['sha256']}`"],
        ["licence", values["licence"]],
    ]


def _wrap_command(command, *, width=110):
    """The words of a command on lines that end with a backslash."""
    lines = [[]]
    for word in map(shlex.quote, shlex.split(command)):
        if lines[-1] and sum(len(one) + 1 for one in lines[-1]) + len(word) > width - 6:
            lines.append([])
        lines[-1].append(word)
    texts = [("    " if number else "") + " ".join(line) for number, line in enumerate(lines)]
    return [f"{text} \\" for text in texts[:-1]] + texts[-1:]
