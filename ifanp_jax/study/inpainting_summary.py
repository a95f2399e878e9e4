"""The numbers of a study over holes, gathered from its finished runs."""

import pathlib

import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import metrics
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import hole_values, holes
from ifanp_jax.metrics import inpainting
from ifanp_jax.study import equal_time, summary
from ifanp_jax.study.inpainting_published import PUBLISHED
from ifanp_jax.study.one_run import config_of, own_fields, run_dir

METRICS = (*inpainting.NAMES, *(f"hole_{name}" for name in inpainting.NAMES))
COMPARED = "hole_psnr"
RIVALS = ("mean", "telea", "patch_match")  # classical methods that every model is compared with


def summarise(
    config: ConfigDict, workdir: str | pathlib.Path, dataset: Dataset, masks: holes.Holes
) -> dict[str, object]:
    """Gathers finished runs: `rows` (one per model and kind of hole), paired differences, classical rows.

    A value is the mean over seeds, image by image; intervals are bootstrap 95 % over images of that.

    Args:
      config: of the study.
      workdir: of the study.
      dataset: of all runs.
      masks: that all were tested with.
    """
    names, seeds = list(config.study.models), list(config.study.seeds)
    values = {
        name: _mean_over_seeds([summary.read_values(run_dir(workdir, name, seed)) for seed in seeds])
        for name in names
    }
    classical_rows, classical_values = hole_values.evaluate_classical(config.evaluate, dataset, masks)
    missing = hole_values.missing_methods(classical_rows)
    return {
        "data": dataset.name,
        "image_shape": list(dataset.train.shape[1:]),
        "num_training_images": len(dataset.train),
        "eval_split": config.data.eval_split,
        "batch_size": config.train.batch_size,
        "ema_decay": config.train.ema_decay,
        "seeds": seeds,
        "hole_shares": {kind: share for kind, share in config.mask.hole_shares.items() if share},
        "num_samples": config.evaluate.num_samples,
        "holes": holes.describe(masks),
        "models": {name: _facts(config, workdir, name) for name in names},
        "rows": [row for name in names for row in _rows_of(name, values[name], masks, config)],
        "classical": classical_rows,
        "missing": missing,
        "comparisons": [
            *_compare_models(config, values, masks),
            *_compare_with_classical(config, values, classical_values, masks),
        ],
        "published": list(PUBLISHED),
    }


def _mean_over_seeds(archives):
    return {name: np.mean([archive[name] for archive in archives], axis=0) for name in archives[0]}


def _facts(config, workdir, name):
    """What the table of models says of one."""
    directories = [run_dir(workdir, name, seed) for seed in config.study.seeds]
    one = config_of(config, name, 0)
    return {
        "num_parameters": summary.read_evaluation(directories[0])["num_parameters"],
        "num_steps": equal_time.num_steps_of(config, workdir, name),
        "training_seconds": summary.mean_training_seconds(directories),
        "adversarial": one.step.get("adversarial"),
        "num_critic_updates": one.step.get("num_critic_updates"),
        "fields": own_fields(config, name),
    }


def _rows_of(name, values, masks, config):
    """The rows of one model, one per kind of hole; those with its own finish behind them."""
    seed, rows = config.evaluate.seed, []
    for kind, mask in masks.items():
        found = {metric: values[hole_values.value_name(kind, metric)] for metric in METRICS}
        row = hole_values.make_row(kind, name, found, mask, seed=seed)
        rows.append(row | {"bins": hole_values.by_area(found, mask, seed=seed)})
    for kind, mask in masks.items():
        names = {metric: hole_values.value_name(kind, metric, method="blended") for metric in METRICS}
        if set(names.values()) <= set(values):
            found = {metric: values[key] for metric, key in names.items()}
            mask = mask[: len(found[COMPARED])]
            row = hole_values.make_row(kind, f"{name}, blended", found, mask, seed=seed)
            rows.append(row | {"bins": []})
    return rows


def _compare_models(config, values, masks):
    """Paired differences, image by image, of the pairs that the study asks for."""
    pairs = [pair for pair in config.study.order if set(pair) <= set(values)]
    return [
        _difference(kind, lower, higher, values[lower][name], values[higher][name], config.evaluate.seed)
        for lower, higher in pairs
        for kind in masks
        for name in [hole_values.value_name(kind, COMPARED)]
    ]


def _compare_with_classical(config, values, classical, masks):
    """Paired differences of every model and RIVALS, on the images that these were tested on."""
    found = []
    for rival in RIVALS:
        for name, of_model in values.items():
            for kind in masks:
                theirs = classical.get(hole_values.value_name(kind, COMPARED, method=rival))
                if theirs is not None:
                    ours = of_model[hole_values.value_name(kind, COMPARED)][: len(theirs)]
                    found.append(_difference(kind, rival, name, theirs, ours, config.evaluate.seed))
    return found


def _difference(kind, lower, higher, theirs, ours, seed):
    """Mean over images of the second minus the first, with its interval."""
    difference = ours - theirs
    difference = difference[np.isfinite(difference)]
    interval = metrics.bootstrap_interval(difference, seed=seed)
    return {
        "lower": lower,
        "higher": higher,
        "hole": kind,
        "num_images": len(difference),
        "difference": float(difference.mean()),
        "interval": list(interval),
    }
