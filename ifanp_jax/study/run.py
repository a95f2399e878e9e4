"""Many models, one protocol: trains each, then writes one table and its figures.

Every model sees the same images, contexts, number of steps and seeds. Each (model, seed) is a run in a folder
of its own, so a study that was killed goes on where it was: finished runs are read, the next is resumed.
"""

import contextlib
import csv
import json
import logging
import pathlib
import statistics

import jax
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import configuration, files, metrics, models, training
from ifanp_jax.data.dataset import Dataset, describe_images
from ifanp_jax.data.sources import arrays
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import baselines, cells, evaluate, figures, image_values, report, tables, validation
from ifanp_jax.models import answers as model_answers
from ifanp_jax.training import metrics_file, runs

logger = logging.getLogger(__name__)

NUM_PICTURES = 4  # rows of each figure
COMPARED = ("psnr", "psnr_completed")  # metrics with intervals and paired differences
SCALARS = (
    "psnr", "psnr_completed", "psnr_unobserved", "mse", "ssim", "kl", "log_prob", "log_prob_per_image",
    "crps",
)  # fmt: skip


def run(config: ConfigDict, workdir: str | pathlib.Path, dataset: Dataset) -> dict:
    """Trains and evaluates every model of `config.study`, then writes tables and figures.

    Args:
      config: as in `configs/default.py`, with `config.study`.
      workdir: of the study; every run has a folder in it.
      dataset: of all runs.

    Returns:
      What `study.json` holds.

    Raises:
      UserError: when a model's name is wrong, or a folder holds a run of another configuration.
    """
    workdir = pathlib.Path(workdir)
    names, seeds = list(config.study.models), list(config.study.seeds)
    if jax.process_count() > 1:
        raise UserError("A study runs in one process, on all of its devices; start it on one machine alone.")
    for name in names:
        one = config_of(config, name, 0)
        configuration.check(one)
        runs.make(one, runs.trained_shape(one, dataset))
    for seed in seeds:
        for name in names:
            _run_one(config_of(config, name, seed), run_dir(workdir, name, seed), dataset)
    study = summarise(config, workdir, dataset)
    write(study, workdir)
    draw(config, workdir, dataset)
    return study


def config_of(config: ConfigDict, name: str, seed: int) -> ConfigDict:
    """The configuration of one run: the study's, with the model's own fields, the common ones and the seed.

    Args:
      config: of the study.
      name: of the model, such as "point_np.CNP".
      seed: of the run.
    """
    one = config.copy_and_resolve_references()
    family, _, variant = name.partition(".")
    one.evaluate.classical_images = 0  # the same for every model: `summarise` evaluates them once
    with one.unlocked():
        del one["study"]
        known = models.default_fields(name)
        common = {field: value for field, value in config.model.items() if field in known}
        own = config.study.fields.get(family, {}).get(variant, {})
        one.model = models.get_config(name, **common, **own)
        one.seed = seed
    return one


def run_dir(workdir: pathlib.Path, name: str, seed: int) -> pathlib.Path:
    """The folder of one run."""
    return workdir / f"{name}_seed{seed}"


def _run_one(config, directory, dataset):
    """Trains and evaluates one model where that is not done yet."""
    runs.check_same_run(directory, config, runs.trained_shape(config, dataset), allowed_changes=None)
    if (directory / "evaluation.json").is_file():  # written last
        _check_same_images(directory, config, dataset)
        logger.info("%s is finished.", directory.name)
        return
    run = training.run(config, directory, dataset, validate=validation.make_validation(config, dataset))
    evaluation, values = evaluate.evaluate(run, dataset)
    report.draw(run, dataset, evaluation, directory)
    report.write(evaluation, values, directory)


def _check_same_images(directory, config, dataset):
    """A finished run of other images would stand in one table with those of today."""
    evaluation = _read_evaluation(directory)
    held_out = dataset.evaluation[: config.evaluate.num_images or None]
    for part, images in (("training", dataset.train), ("held_out", held_out)):
        now = describe_images(images)
        if evaluation.get(f"{part}_images", now) != now:  # runs of older versions do not have it
            raise UserError(
                f"{directory} was trained or evaluated on other {part.replace('_', '-')} images than those "
                "given now; give the same ones or choose another --workdir."
            )


def _read_evaluation(directory):
    with _refusing_damage(directory):
        return json.loads((directory / "evaluation.json").read_text())


def summarise(config: ConfigDict, workdir: pathlib.Path, dataset: Dataset) -> dict:
    """Gathers finished runs: `rows` (one per model, mask and fraction), paired differences, classical rows.

    A value is the mean over seeds, image by image; intervals are bootstrap 95 % over images of that.

    Args:
      config: of the study.
      workdir: of the study.
      dataset: of all runs.
    """
    seed = config.evaluate.seed
    values = {
        name: [_read_values(run_dir(workdir, name, one)) for one in config.study.seeds]
        for name in config.study.models
    }
    rows = []
    for name, per_seed in values.items():
        facts = _facts(config, workdir, name)
        for kind, fraction in cells.list_cells(config.evaluate):
            by_seed = [_of_cell(archive, kind, fraction) for archive in per_seed]
            mean = {metric: np.mean([one[metric] for one in by_seed], axis=0) for metric in by_seed[0]}
            row = facts | {"mask": kind, "fraction": fraction} | image_values.summarise(mean, seed=seed)
            spread = [float(one["psnr"].mean()) for one in by_seed]
            row["psnr_by_seed"] = spread
            rows.append(row)
    return {
        "data": dataset.name,
        "image_shape": list(dataset.train.shape[1:]),
        "num_training_images": len(dataset.train),
        "eval_split": config.data.eval_split,
        "protocol": config.protocol,
        "num_steps": config.train.num_steps,
        "batch_size": config.train.batch_size,
        "learning_rate": config.train.learning_rate,
        "ema_decay": config.train.ema_decay,
        "seeds": list(config.study.seeds),
        "mask": config.mask.kind,
        "mask_fraction": list(config.mask.fraction),
        "target": config.objective.target,
        "likelihood": config.model.likelihood,
        "sigma": config.model.sigma,
        "sigma_floor": config.model.sigma_floor,
        "num_samples": config.evaluate.num_samples,
        "models": {name: _own_fields(config, name) for name in values},
        "rows": rows,
        "comparisons": _compare(config, values),
        "classical": baselines.evaluate_classical(config.evaluate, dataset),
        "published": [
            [name, {f"random {fraction:.0%}": str(psnr) for fraction, psnr in numbers}]
            for name, numbers in config.study.published
        ],
    }


def _own_fields(config, name):
    """Widths, depths and options of one model; the likelihood is common to all."""
    fields = config_of(config, name, 0).model.to_dict()
    return {field: value for field, value in fields.items() if field not in ("name", *config.model)}


def _facts(config, workdir, name):
    """What a row says of its model besides the metrics."""
    directories = [run_dir(workdir, name, seed) for seed in config.study.seeds]
    evaluation = _read_evaluation(directories[0])
    speeds = [
        row["train/images_per_second"]
        for directory in directories
        for row in metrics_file.read_metrics(directory)
        if "train/images_per_second" in row
    ]
    images = config.train.num_steps * config.train.batch_size
    return {
        "model": name,
        "num_parameters": evaluation["num_parameters"],
        "training_seconds": images / statistics.median(speeds) if speeds else None,
    }


def _read_values(directory):
    with (
        _refusing_damage(directory),
        (directory / "evaluation.npz").open("rb") as file,  # NumPy leaves it open when it is damaged
        np.load(file, allow_pickle=False) as archive,
    ):
        return dict(archive)


@contextlib.contextmanager
def _refusing_damage(directory):
    try:
        yield
    except arrays.DAMAGED as error:
        raise UserError(
            f"The evaluation in {directory} cannot be read ({error}); remove its evaluation.json, and the "
            "same command evaluates the run again."
        ) from None


def _of_cell(archive, kind, fraction):
    start = cells.value_name(kind, fraction, "")
    return {name.removeprefix(start): value for name, value in archive.items() if name.startswith(start)}


def _compare(config, values):
    """Paired differences, image by image, of the pairs that the study asks for."""
    comparisons = []
    for lower, higher in config.study.order:
        if not {lower, higher} <= set(values):
            continue
        for kind, fraction in cells.list_cells(config.evaluate):
            for metric in COMPARED:
                name = cells.value_name(kind, fraction, metric)
                means = [np.mean([one[name] for one in values[model]], axis=0) for model in (lower, higher)]
                difference = means[1] - means[0]
                low, high = metrics.bootstrap_interval(difference, seed=config.evaluate.seed)
                comparisons.append(
                    {
                        "lower": lower,
                        "higher": higher,
                        "mask": kind,
                        "fraction": fraction,
                        "metric": metric,
                        "difference": float(difference.mean()),
                        "interval": [low, high],
                    }
                )
    return comparisons


def write(study: dict, workdir: str | pathlib.Path) -> None:
    """Writes `study.csv`, `study.md` and, last, `study.json`."""
    workdir = pathlib.Path(workdir)
    names = [name for name in SCALARS if name in study["rows"][0]]
    facts = ("model", "mask", "fraction", "num_parameters", "training_seconds", "num_images")
    intervals = [f"{name}_interval" for name in image_values.PSNR_NAMES]
    with files.replacing(workdir / "study.csv") as path, path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*facts, *names, *(f"{name}_{end}" for name in intervals for end in ("low", "high"))])
        for row in study["rows"]:
            ends = [end for name in intervals for end in row[name]]
            table.writerow([row[name] for name in (*facts, *names)] + ends)
    files.write_whole(workdir / "study.md", "\n".join(list_lines(study)) + "\n")
    files.write_whole(workdir / "study.json", json.dumps(study, indent=2) + "\n")


def list_lines(study: dict) -> list[str]:
    """The lines of `study.md`."""
    rows = study["rows"]
    labels = list(dict.fromkeys(tables.label(row) for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    lines = [caption(study), ""]

    def add_table(title, head, body):
        lines.extend([f"**{title}**", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)])
        lines.extend(f"| {' | '.join(cells)} |" for cells in body)
        lines.append("")

    def of_model(model, show):
        return [show(row) for row in rows if row["model"] == model]

    first = {model: next(row for row in rows if row["model"] == model) for model in models}
    for metric, title in (
        ("psnr", "PSNR of the raw prediction, dB (95 % interval over images)"),
        ("psnr_completed", "PSNR of the completed image, observed pixels kept, dB"),
        ("psnr_unobserved", "PSNR over the unobserved pixels, dB"),
    ):
        body = [
            [short_name(model), *of_model(model, lambda row, metric=metric: _with_interval(row, metric))]
            for model in models
        ]
        if metric == "psnr_completed" and study["classical"]:
            count = study["classical"][0]["num_images"]
            body.append(
                [
                    f"best interpolation, first {count} images",
                    *(_best_classical(study, label) for label in labels),
                ]
            )
        if metric == "psnr":
            body += [
                [f"paper, {short_name(model)}", *(numbers.get(label, "") for label in labels)]
                for model, numbers in study["published"]
            ]
        add_table(title, ["model", *labels], body)
    for metric, title, form in (
        ("kl", "KL(q(z given the full image) against q(z given the context)), nats", "{:.3g}"),
        ("log_prob", "log-likelihood, importance-weighted, nats per value", "{:.3f}"),
        ("log_prob_per_image", "log-likelihood, importance-weighted, nats per image", "{:.0f}"),
        ("crps", "CRPS over unobserved pixels, intensities (smaller is better)", "{:.4f}"),
    ):
        body = [
            [short_name(model), *of_model(model, lambda row, m=metric, f=form: f.format(row[m]))]
            for model in models
        ]
        add_table(title, ["model", *labels], body)
    levels = " / ".join(f"{level:.0%}" for level in tables.SHOWN_LEVELS)
    add_table(
        f"Share of unobserved values inside the central {levels} intervals",
        ["model", *labels],
        [[short_name(model), *of_model(model, tables.show_coverage)] for model in models],
    )
    add_table(
        "Paired differences of the raw PSNR, dB, image by image (95 % interval)",
        ["second minus first", *labels],
        _difference_rows(study, "psnr", labels),
    )
    add_table(
        "Paired differences of the completed PSNR, dB",
        ["second minus first", *labels],
        _difference_rows(study, "psnr_completed", labels),
    )
    add_table(
        "Models",
        ["model", "parameters", "training, minutes", "raw PSNR by seed, first context", "fields"],
        [
            [
                short_name(model),
                f"{first[model]['num_parameters']:,}",
                _minutes(first[model]["training_seconds"]),
                ", ".join(f"{value:.2f}" for value in first[model]["psnr_by_seed"]),
                ", ".join(f"{name} {value}" for name, value in study["models"][model].items()),
            ]
            for model in models
        ],
    )
    return lines


def caption(study: dict) -> str:
    """One line that says what the numbers are."""
    fractions = " to ".join(f"{fraction:.0%}" for fraction in study["mask_fraction"])
    sigma = f"sigma {study['sigma']}" if study["likelihood"] == "fixed" else f"floor {study['sigma_floor']}"
    seeds = ", ".join(map(str, study["seeds"]))
    return (
        f"{study['data']} {tables.show_shape(study)}: {study['num_steps']} steps of {study['batch_size']} "
        f"of {study['num_training_images']:,} training images, peak learning rate {study['learning_rate']}, "
        f"moving average {study['ema_decay']}, seeds {seeds}{tables.show_protocol(study)}; training "
        f"contexts {study['mask']}, {fractions} observed; target {study['target']}; likelihood "
        f"{study['likelihood']}, {sigma}. {study['rows'][0]['num_images']} held-out images (split "
        f"{study['eval_split']}) with the same contexts for every model; the prediction is the mean of "
        f"{study['num_samples']} samples drawn from q(z given the context), and the log-likelihood is the "
        "importance-weighted bound with as many. "
        "Intervals are over the images, not over trainings: another seed may move a model further."
    )


def short_name(model: str) -> str:
    """The name without its file: "image_np.IFANP" gives "IFANP"."""
    return model.rpartition(".")[2]


def _minutes(seconds):
    return "-" if seconds is None else f"{seconds / 60:.1f}"


def _with_interval(row, metric):
    low, high = row[f"{metric}_interval"]
    return f"{row[metric]:.2f} ({low:.2f}-{high:.2f})"


def _best_classical(study, label):
    rows = [row for row in study["classical"] if tables.label(row) == label]
    best = max(rows, key=lambda row: row["psnr_completed"])
    return f"{best['psnr_completed']:.2f} {best['method'].replace('_', ' ')}"


def _difference_rows(study, metric, labels):
    body = {}
    for entry in study["comparisons"]:
        if entry["metric"] == metric:
            low, high = entry["interval"]
            texts = body.setdefault((entry["lower"], entry["higher"]), {})
            texts[tables.label(entry)] = f"{entry['difference']:+.2f} ({low:+.2f} to {high:+.2f})"
    return [
        [f"{short_name(lower)}, {short_name(higher)}", *(texts[label] for label in labels)]
        for (lower, higher), texts in body.items()
    ]


def draw(config: ConfigDict, workdir: pathlib.Path, dataset: Dataset) -> None:
    """Writes the paper's figures from the runs of the first seed.

    `figure_a.png`: completions at the smallest fraction; `figure_b.png`: samples from the upper half, the
    last of each model joined to the true upper half; `figure_c.png`: training MSE; `figure_d.png`: variants
    and fractions.

    Args:
      config: of the study.
      workdir: of the study.
      dataset: the first held-out images are drawn.
    """
    seed = config.study.seeds[0]
    images = np.asarray(dataset.evaluation[:NUM_PICTURES], np.float32) / 255

    def trained(names):
        return [name for name in names if name in config.study.models]

    def samples_of(name, mask):
        run = runs.load(run_dir(workdir, name, seed))
        options = {"num_samples": max(config.evaluate.num_samples, figures.NUM_SAMPLES_SHOWN)}
        key = jax.random.key(config.evaluate.seed)
        completion = model_answers.complete_batch(key, run.model, run.variables, images, mask, **options)
        return jax.device_get(completion.samples)

    def context_of(kind, fraction):
        mask = cells.draw_contexts(config.evaluate.seed, kind, fraction, images.shape[:3])
        shown = [figures.show_context(image, one) for image, one in zip(images, mask, strict=True)]
        return mask, shown

    def draw_means(path, names, fractions):
        rows, labels = [], []
        for fraction in fractions:
            mask, shown = context_of("random", fraction)
            means = [samples_of(name, mask).mean(axis=0) for name in names]
            for index, image in enumerate(images):
                rows.append([shown[index], *(mean[index] for mean in means), image])
                labels.append(f"{fraction:.0%}")
        columns = ["context", *map(short_name, names), "truth"]
        figures.draw_grid(path, rows, columns, labels=labels)

    fractions = config.evaluate.fractions or (config.evaluate.uniform_fraction,)
    draw_means(workdir / "figure_a.png", trained(config.study.figure_a), (min(fractions),))
    draw_means(workdir / "figure_d.png", trained(config.study.variants), fractions)

    mask, shown = context_of("top", 0.5)
    columns, answers = ["context"], []
    for name in trained(config.study.figure_b):
        samples = samples_of(name, mask)[: figures.NUM_SAMPLES_SHOWN]
        joined = np.where(mask, images, samples[-1])
        answers += [*samples, joined]
        columns += [f"{short_name(name)} {k + 1}" for k in range(len(samples))] + ["joined"]
    rows = [
        [shown[index], *(answer[index] for answer in answers), image] for index, image in enumerate(images)
    ]
    figures.draw_grid(workdir / "figure_b.png", rows, [*columns, "truth"])

    curves = {}
    for name in trained(config.study.variants):
        rows = metrics_file.read_metrics(run_dir(workdir, name, seed))
        points = [(row["step"], row["train/mse"]) for row in rows if "train/mse" in row]
        curves[short_name(name)] = points
    figures.draw_curves(workdir / "figure_c.png", curves, label="training MSE")
