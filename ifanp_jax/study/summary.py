"""The numbers of a study, gathered from its finished runs."""

import contextlib
import json
import pathlib
import statistics

import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import files, metrics
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import baselines, by_rounds, image_values
from ifanp_jax.evaluation.cells import list_cells, value_name
from ifanp_jax.study import equal_time
from ifanp_jax.study.one_run import config_of, describe_changes, own_fields, run_dir
from ifanp_jax.training import metrics_file

COMPARED = ("psnr", "psnr_completed")  # metrics with paired differences

Values = dict[str, list[dict[str, np.ndarray]]]  # by model: one archive of values per image for each seed


def summarise(config: ConfigDict, workdir: str | pathlib.Path, dataset: Dataset) -> dict:
    """Gathers finished runs: `rows` (one per model, mask and fraction), paired differences, classical rows.

    A value is the mean over seeds, image by image; intervals are bootstrap 95 % over images of that.

    Args:
      config: of the study.
      workdir: of the study.
      dataset: of all runs.
    """
    names, seeds = list(config.study.models), list(config.study.seeds)
    values = {name: [read_values(run_dir(workdir, name, seed)) for seed in seeds] for name in names}
    configs = {name: config_of(config, name, seeds[0]) for name in names}
    return {
        "data": dataset.name,
        "image_shape": list(dataset.train.shape[1:]),
        "num_training_images": len(dataset.train),
        "eval_split": config.data.eval_split,
        "protocol": config.protocol,
        "num_steps": {name: equal_time.num_steps_of(config, workdir, name) for name in names},
        "minutes": config.study.get("minutes", 0),
        "batch_size": config.train.batch_size,
        "learning_rate": config.train.learning_rate,
        "ema_decay": config.train.ema_decay,
        "seeds": seeds,
        "mask": config.mask.kind,
        "mask_fraction": list(config.mask.fraction),
        "target": config.objective.target,
        "has_one_target": len({one.objective.target for one in configs.values()}) == 1,
        "likelihood": config.model.get("likelihood"),
        "sigma": config.model.get("sigma"),
        "sigma_floor": config.model.get("sigma_floor"),
        "num_samples": config.evaluate.num_samples,
        "rounds": next(filter(None, (by_rounds.describe(one.evaluate) for one in configs.values())), None),
        "changes": describe_changes(config),
        "models": {name: own_fields(config, name) for name in names},
        "rows": [row for name in names for row in _rows_of(config, workdir, name, values[name])],
        "comparisons": _compare(config, values),
        "classical": baselines.evaluate_classical(config.evaluate, dataset),
        "published": [
            {"model": name} | _published_cell(*numbers)
            for name, of_model in config.study.published
            for numbers in of_model
        ],
    }


def _published_cell(fraction, psnr, kl):
    """What the paper prints of a model at one observed share."""
    return {"mask": "random", "fraction": fraction, "psnr": psnr, "kl": kl}


def _rows_of(config, workdir, name, archives):
    """The rows of one model, one per mask and fraction."""
    directories = [run_dir(workdir, name, seed) for seed in config.study.seeds]
    facts = {
        "model": name,
        "num_parameters": read_evaluation(directories[0])["num_parameters"],
        "training_seconds": mean_training_seconds(directories),
    }
    rows = []
    for kind, fraction in list_cells(config.evaluate):
        by_seed = [_of_cell(archive, kind, fraction) for archive in archives]
        mean = {metric: np.mean([one[metric] for one in by_seed], axis=0) for metric in by_seed[0]}
        row = facts | {"mask": kind, "fraction": fraction}
        row |= image_values.summarise(mean, seed=config.evaluate.seed)
        row["psnr_by_seed"] = [float(one["psnr"].mean()) for one in by_seed]
        rows.append(row)
    return rows


def mean_training_seconds(directories: list[pathlib.Path]) -> float | None:
    """Measured seconds of training, compilation included, mean over runs; None where one has no metrics.

    Args:
      directories: of the runs.
    """
    seconds = []
    for directory in directories:
        measured = [
            row["train/seconds"] for row in metrics_file.read_metrics(directory) if "train/seconds" in row
        ]
        if not measured:
            return None
        seconds.append(measured[-1])  # they add up over the rows
    return statistics.mean(seconds)


def _of_cell(archive, kind, fraction):
    start = value_name(kind, fraction, "")
    return {name.removeprefix(start): value for name, value in archive.items() if name.startswith(start)}


def _compare(config, values: Values) -> list[dict]:
    """Paired differences, image by image, of the pairs that the study asks for."""
    pairs = [pair for pair in config.study.order if set(pair) <= set(values)]
    return [
        {"lower": lower, "higher": higher, "mask": kind, "fraction": fraction, "metric": metric}
        | _difference(values[lower], values[higher], value_name(kind, fraction, metric), config.evaluate.seed)
        for lower, higher in pairs
        for kind, fraction in list_cells(config.evaluate)
        for metric in COMPARED
    ]


def _difference(lower, higher, name, seed):
    """Mean over images of the second minus the first, with its interval."""
    means = [np.mean([archive[name] for archive in archives], axis=0) for archives in (lower, higher)]
    difference = means[1] - means[0]
    interval = metrics.bootstrap_interval(difference, seed=seed)
    return {"difference": float(difference.mean()), "interval": list(interval)}


def read_evaluation(directory: pathlib.Path) -> dict:
    """Reads `evaluation.json` of a finished run.

    Raises:
      UserError: when it is damaged.
    """
    with _refusing_damage(directory):
        return json.loads((directory / "evaluation.json").read_text())


def read_values(directory: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads `evaluation.npz` of a finished run.

    Args:
      directory: of the run.

    Raises:
      UserError: when it is damaged.
    """
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
    except files.DAMAGED as error:
        raise UserError(
            f"The evaluation in {directory} cannot be read ({error}); remove its evaluation.json, and the "
            "same command evaluates the run again."
        ) from None
