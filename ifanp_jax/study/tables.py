"""The tables of a study: `study.md`, `study.csv` and `study.json`."""

import csv
import functools
import json
import pathlib
from collections.abc import Callable

from ifanp_jax import files
from ifanp_jax.evaluation import image_values, tables
from ifanp_jax.evaluation.tables import label, show
from ifanp_jax.study.one_run import short_name

PSNR_TITLES = {
    "psnr": "PSNR of the raw prediction, dB (95 % interval over images)",
    "psnr_completed": "PSNR of the completed image, observed pixels kept, dB",
    "psnr_unobserved": "PSNR over the unobserved pixels, dB",
}
OTHER_TITLES = {
    "kl": ("KL(q(z given the full image) against q(z given the context)), nats", ".3g"),
    "log_prob": ("log-likelihood, importance-weighted, nats per value", ".3f"),
    "log_prob_per_image": ("log-likelihood, importance-weighted, nats per image", ".0f"),
    "crps": ("CRPS over unobserved pixels, intensities (smaller is better)", ".4f"),
    "rounds_psnr_one": ("one sample by rounds: PSNR of the completed image, dB", ".2f"),
    "rounds_psnr_best": ("best of the samples by rounds: PSNR of the completed image, dB", ".2f"),
    "rounds_energy_score": ("energy score of the samples by rounds, intensities (smaller is better)", ".4f"),
    "rounds_gradient_ratio": ("gradient energy of a sample by rounds, the truth's being 1", ".2f"),
    "rounds_rank_correlation": ("rank correlation of the uncertainty with the error", ".2f"),
    "rounds_log_prob": ("joint log-likelihood by rounds, nats per unobserved value", ".3f"),
    "rounds_log_prob_one": ("the same by one round", ".3f"),
}
PUBLISHED_FORMS = {"psnr": "", "kl": "f"}  # all digits that the paper prints
FACTS = ("model", "mask", "fraction", "num_parameters", "training_seconds", "num_images")
SCALARS = (
    "psnr", "psnr_completed", "psnr_unobserved", "mse", "ssim", "kl", "log_prob", "log_prob_per_image",
    "crps", *(name for name in OTHER_TITLES if name.startswith("rounds_")),
)  # fmt: skip

Table = tuple[str, list[str], list[list[str]]]  # title, names of the columns, rows


def write(study: dict, workdir: str | pathlib.Path) -> None:
    """Writes `study.csv`, `study.md` and, last, `study.json`."""
    workdir = pathlib.Path(workdir)
    names = [name for name in SCALARS if any(name in row for row in study["rows"])]
    intervals = [f"{name}_interval" for name in image_values.PSNR_NAMES]
    with files.replacing(workdir / "study.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*FACTS, *names, *(f"{name}_{end}" for name in intervals for end in ("low", "high"))])
        for row in study["rows"]:
            ends = [end for name in intervals for end in row[name]]
            writer.writerow([row.get(name) for name in (*FACTS, *names)] + ends)
    files.write_whole(workdir / "study.md", "\n".join(list_lines(study)) + "\n")
    files.write_whole(workdir / "study.json", json.dumps(study, indent=2) + "\n")


def list_lines(study: dict) -> list[str]:
    """The lines of `study.md`."""
    lines = [caption(study), ""]
    for title, head, body in _list_tables(study):
        lines += [f"**{title}**", "", *tables.markdown_table(head, body), ""]
    return lines + (["", _published_note(study)] if study["published"] else [])


def terminal_lines(study: dict) -> list[str]:
    """The same tables in lines of 80 characters."""
    lines = tables.fill(caption(study))
    for title, head, body in _list_tables(study):
        lines += ["", *tables.fill(f"{title}:"), "", *tables.plain_table(head, body)]
    return lines + (["", *tables.fill(_published_note(study))] if study["published"] else [])


def _list_tables(study) -> list[Table]:
    return [
        *(_psnr_table(study, metric) for metric in PSNR_TITLES),
        *(_metric_table(study, metric) for metric in OTHER_TITLES if _has(study, metric)),
        *([_coverage_table(study)] if _has(study, "coverage") else []),
        _difference_table(study, "psnr", "raw PSNR, dB, image by image (95 % interval)"),
        _difference_table(study, "psnr_completed", "completed PSNR, dB"),
        _model_table(study),
    ]


def caption(study: dict) -> str:
    """What the numbers are, in sentences on one line."""
    fractions = " to ".join(f"{fraction:.0%}" for fraction in study["mask_fraction"])
    seeds = ", ".join(map(str, study["seeds"]))
    likelihood = f" The likelihood is {tables.show_likelihood(study)}." if study["likelihood"] else ""
    num_images = study["rows"][0]["num_images"]
    steps = set(study["num_steps"].values())
    num_steps = f"{steps.pop()} steps" if len(steps) == 1 else "the steps that the last table gives, each"
    if study["minutes"]:
        num_steps = f"as many steps as fit in {study['minutes']:g} minutes of one core, each"
    return (
        f"Every model was trained on {study['data']} {tables.show_shape(study)} for {num_steps} "
        f"of {study['batch_size']} of {study['num_training_images']:,} training images. The peak "
        f"learning rate was {study['learning_rate']}, the moving average {study['ema_decay']}, and the seeds "
        f"were {seeds}{tables.show_protocol(study)}. The training contexts were {study['mask']}, {fractions} "
        f"observed, with the target {study['target']}.{likelihood}{_changes_note(study)} The tests are on "
        f"{num_images} held-out images (split {study['eval_split']}) with the same contexts for every model. "
        f"The prediction is the mean of {study['num_samples']} samples drawn from q(z given the context), "
        "clipped to [0, 1]. The log-likelihood is the importance-weighted bound with as many. "
        f"{_rounds_note(study)}Intervals are over the images, not over trainings: another seed may move a "
        "model further."
    )


def _changes_note(study):
    """What a name with a change means."""
    notes = [
        f' "{name.replace("_", " ")}" behind a name changes this: {", ".join(fields)}.'
        for name, fields in study["changes"].items()
    ]
    if not study["has_one_target"]:
        notes.append(
            " The log-likelihoods, but those by rounds, are of the target pixels of each training: compare "
            "them among trainings of one target."
        )
    return "".join(notes)


def _rounds_note(study):
    how = study["rounds"]
    if not how:
        return ""
    return (
        f"Samples by rounds: {how['num_samples']} were drawn by {how['rounds']} rounds for each of the first "
        f"{how['rounds_images']} images; order and noise come from seed {how['seed']}. "
    )


def _has(study, metric):
    return any(metric in row for row in study["rows"])


def _labels(study):
    return list(dict.fromkeys(label(row) for row in study["rows"]))


def _body(study, show_row: Callable[[dict], str]) -> list[list[str]]:
    """One row of texts per model, one text per cell."""
    texts = {}
    for row in study["rows"]:
        texts.setdefault(row["model"], []).append(show_row(row))
    return [[short_name(model), *cells] for model, cells in texts.items()]


def _psnr_table(study, metric) -> Table:
    labels = _labels(study)
    body = _body(study, functools.partial(_with_interval, metric=metric))
    if metric == "psnr_completed" and study["classical"]:
        count = study["classical"][0]["num_images"]
        cells = {label(row): tables.show_best_classical(study["classical"], row) for row in study["rows"]}
        body.append([f"best interpolation, first {count} images", *cells.values()])
    return PSNR_TITLES[metric], ["model", *labels], body + _published_rows(study, metric)


def _metric_table(study, metric) -> Table:
    title, form = OTHER_TITLES[metric]
    body = _body(study, functools.partial(show, name=metric, form=form))
    return title, ["model", *_labels(study)], body + _published_rows(study, metric)


def _published_rows(study, metric):
    """What the paper prints of a metric, beside ours."""
    if metric not in PUBLISHED_FORMS:
        return []
    texts = {}
    for cell in study["published"]:
        of_model = texts.setdefault(cell["model"], {})
        of_model[label(cell)] = show(cell, metric, PUBLISHED_FORMS[metric])
    return [
        [f"paper, {short_name(model)}", *(of_model.get(name, "") for name in _labels(study))]
        for model, of_model in texts.items()
    ]


def _published_note(study):
    return (
        "The paper's rows are the numbers that it prints. It does not state its protocol: of how many "
        "samples a prediction is, whether it is clipped, and whether the KL is a sum or a mean. Ours is the "
        f"clipped mean of {study['num_samples']} samples, and our KL is a sum over the dimensions of z."
    )


def _coverage_table(study) -> Table:
    levels = " / ".join(f"{level:.0%}" for level in tables.SHOWN_LEVELS)
    title = f"Share of unobserved values inside the central {levels} intervals"
    return title, ["model", *_labels(study)], _body(study, tables.show_coverage)


def _difference_table(study, metric, what) -> Table:
    labels, texts = _labels(study), {}
    for entry in study["comparisons"]:
        if entry["metric"] == metric:
            low, high = entry["interval"]
            cells = texts.setdefault((entry["lower"], entry["higher"]), {})
            cells[label(entry)] = f"{entry['difference']:+.2f} ({low:+.2f} to {high:+.2f})"
    body = [
        [short_name(lower), short_name(higher), *(cells[name] for name in labels)]
        for (lower, higher), cells in texts.items()
    ]
    return f"Paired differences of the {what}", ["from", "to", *labels], body


def _model_table(study) -> Table:
    first = {}
    for row in study["rows"]:
        first.setdefault(row["model"], row)
    head = ["model", "parameters", "steps", "training, minutes", "raw PSNR by seed, first context", "fields"]
    body = [
        [
            short_name(model),
            f"{row['num_parameters']:,}",
            f"{study['num_steps'][model]:,}",
            show_minutes(row["training_seconds"]),
            ", ".join(f"{value:.2f}" for value in row["psnr_by_seed"]),
            ", ".join(f"{name} {value}" for name, value in study["models"][model].items()),
        ]
        for model, row in first.items()
    ]
    return "Models", head, body


def show_minutes(seconds: float | None) -> str:
    """Seconds as minutes; "" for None.

    Args:
      seconds: of a training.
    """
    return "" if seconds is None else f"{seconds / 60:.1f}"


def _with_interval(row, metric):
    low, high = row[f"{metric}_interval"]
    return f"{row[metric]:.2f} ({low:.2f}-{high:.2f})"
