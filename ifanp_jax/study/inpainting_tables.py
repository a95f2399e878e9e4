"""The tables of a study over holes: `study.md`, `study.csv` and `study.json`."""

import csv
import json
import pathlib

from ifanp_jax import files
from ifanp_jax.evaluation import hole_tables, tables
from ifanp_jax.metrics import inpainting
from ifanp_jax.study.inpainting_summary import METRICS
from ifanp_jax.study.one_run import short_name
from ifanp_jax.study.tables import Table, show_minutes

# Title, metric and form of a table's columns; those over the whole image follow those in the hole.
COLUMNS = (
    ("hole PSNR, dB (95 %)", "hole_psnr", ".2f"),
    ("hole l1 %", "hole_l1_percent", ".2f"),
    ("hole l2 %", "hole_l2_percent", ".3f"),
    ("hole SSIM", "hole_ssim", ".3f"),
    ("hole TV %", "hole_tv_percent", ".2f"),
    ("PSNR, dB (95 %)", "psnr", ".2f"),
    ("l1 %", "l1_percent", ".2f"),
    ("l2 %", "l2_percent", ".3f"),
    ("SSIM", "ssim", ".3f"),
    ("TV %", "tv_percent", ".2f"),
)
WITH_INTERVAL = ("hole_psnr", "psnr")
FACTS = ("method", "hole", "sha256", "num_images", "hole_fraction")
PUBLISHED_COLUMNS = ("method", "l1 %", "l2 %", "PSNR", "TV %", "SSIM")


def write(study: dict, workdir: str | pathlib.Path) -> None:
    """Writes `study.csv`, `study.md` and, last, `study.json`.

    Args:
      study: from `inpainting_summary.summarise`.
      workdir: of the study.
    """
    workdir = pathlib.Path(workdir)
    ends = [f"{name}_{end}" for name in METRICS for end in ("low", "high")]
    with files.replacing(workdir / "study.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*FACTS, *METRICS, *ends])
        for row in study["rows"] + study["classical"]:
            intervals = [end for name in METRICS for end in row.get(f"{name}_interval", (None, None))]
            writer.writerow([*(row.get(name) for name in (*FACTS, *METRICS)), *intervals])
    files.write_whole(workdir / "study.md", "\n".join(list_lines(study)) + "\n")
    files.write_whole(workdir / "study.json", json.dumps(study, indent=2) + "\n")


def list_lines(study: dict) -> list[str]:
    """The lines of `study.md`.

    Args:
      study: from `inpainting_summary.summarise`.
    """
    lines = [caption(study)]
    for title, head, body, note in _list_tables(study):
        lines += ["", f"**{title}**", "", *tables.markdown_table(head, body)]
        lines += ["", note] if note else []
    return lines


def terminal_lines(study: dict) -> list[str]:
    """The same tables in lines of 80 characters.

    Args:
      study: from `inpainting_summary.summarise`.
    """
    lines = tables.fill(caption(study))
    for title, head, body, note in _list_tables(study):
        lines += ["", *tables.fill(title), "", *tables.plain_table(head, body)]
        lines += ["", *tables.fill(note)] if note else []
    return lines


def _list_tables(study):
    """Title, head, rows and a note below, which may be empty."""
    for kind in study["holes"]:
        yield *_table_of(study, kind), ""
    for table in (*_area_tables(study), _difference_table(study), _model_table(study)):
        yield *table, ""
    for group in study["published"]:
        body = [[str(row.get(name, "")) for name in PUBLISHED_COLUMNS] for row in group["rows"]]
        yield f"Published: {group['title']}", PUBLISHED_COLUMNS, body, group["protocol"]


def caption(study: dict) -> str:
    """What the numbers are, in a few sentences on one line.

    Args:
      study: from `inpainting_summary.summarise`.
    """
    shares = ", ".join(f"{kind} {share:g}" for kind, share in study["hole_shares"].items())
    seeds = ", ".join(map(str, study["seeds"]))
    missing = (
        f" Left out, for OpenCV is not installed: {', '.join(study['missing'])}." if study["missing"] else ""
    )
    return (
        f"{study['data']} {tables.show_shape(study)}: batches of {study['batch_size']} of "
        f"{study['num_training_images']:,} training images, holes {shares}, moving average "
        f"{study['ema_decay']}, seeds {seeds}. Tests: held-out images (split {study['eval_split']}), each "
        "with the same hole for every method; known pixels are kept, the result is rounded to 8 bits. A "
        f"prediction is the mean of {study['num_samples']} samples. l1 % and l2 % are 100 times the mean "
        "absolute and squared error, TV % 100 times the mean difference of neighbours, of the result. "
        f"{inpainting.SSIM_CONVENTION}{missing} Intervals are over the images, not over trainings: another "
        "seed may move a model further."
    )


def _table_of(study, kind) -> Table:
    rows = [row for row in study["rows"] + study["classical"] if row["hole"] == kind]
    hidden = rows[0]["hole_fraction"]
    title = f"Holes: {kind}, {hidden:.0%} hidden; masks {study['holes'][kind]}"
    head = ["method", "images", "masks", "steps", *(title for title, _, _ in COLUMNS)]
    return title, head, [_cells(study, row) for row in rows]


def _cells(study, row):
    steps = study["models"].get(row["method"].partition(",")[0], {}).get("num_steps", "")
    texts = [short_name(row["method"]), str(row["num_images"]), row["sha256"][:8], str(steps)]
    for _, name, form in COLUMNS:
        show = hole_tables.show_interval if name in WITH_INTERVAL else tables.show
        texts.append(show(row, name, form))
    return texts


def _area_tables(study) -> list[Table]:
    """PSNR in the hole by its share of the image; one table for each kind whose holes differ in that."""
    found = []
    for kind in study["holes"]:
        rows = [row for row in study["rows"] if row["hole"] == kind and row["bins"]]
        if rows:
            bins = {one["bin"]: one["num_images"] for one in rows[0]["bins"]}
            head = ["method", *(f"{name} ({count} images)" for name, count in bins.items())]
            body = [
                [
                    short_name(row["method"]),
                    *(hole_tables.show_interval(one, "hole_psnr", ".2f") for one in row["bins"]),
                ]
                for row in rows
            ]
            found.append((f"{kind}: PSNR in the hole by its share of the image, dB (95 %)", head, body))
    return found


def _difference_table(study) -> Table:
    kinds, texts = list(study["holes"]), {}
    for entry in study["comparisons"]:
        low, high = entry["interval"]
        cells = texts.setdefault((entry["lower"], entry["higher"], entry["num_images"]), {})
        cells[entry["hole"]] = f"{entry['difference']:+.2f} ({low:+.2f} to {high:+.2f})"
    body = [
        [short_name(lower), short_name(higher), str(count), *(cells.get(kind, "") for kind in kinds)]
        for (lower, higher, count), cells in texts.items()
    ]
    title = "Paired differences of the PSNR in the hole, dB, image by image (95 % interval)"
    return title, ["from", "to", "images", *kinds], body


def _model_table(study) -> Table:
    head = ["model", "parameters", "steps", "training, minutes", "critics", "fields"]
    body = []
    for name, facts in study["models"].items():
        critics = facts["adversarial"] or ""
        if critics not in ("", "none") and facts["num_critic_updates"] > 1:
            critics += f", {facts['num_critic_updates']} updates to one"
        fields = ", ".join(f"{field} {value}" for field, value in facts["fields"].items())
        minutes = show_minutes(facts["training_seconds"])
        body.append(
            [
                short_name(name),
                f"{facts['num_parameters']:,}",
                str(facts["num_steps"]),
                minutes,
                critics,
                fields,
            ]
        )
    return "Models", head, body
