"""The numbers of a study, gathered from its finished runs."""

import pathlib
import statistics

import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import metrics
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import baselines, by_rounds, evaluate, report, scores
from ifanp_jax.evaluation.contexts import Contexts
from ifanp_jax.evaluation.options import Options
from ifanp_jax.study import equal_time, published
from ifanp_jax.study.one_run import config_of, describe_changes, own_fields, run_dir
from ifanp_jax.training import metrics_file

COMPARED = ("psnr", "psnr_completed", "hole_psnr")  # metrics with paired differences
RIVALS = ("mean", "telea", "patch_match")  # classical methods that every model is compared with in holes

Archives = dict[str, list[scores.Values]]  # by model: the values per image of each seed


def summarise(
    config: ConfigDict, workdir: str | pathlib.Path, dataset: Dataset, contexts: Contexts
) -> dict[str, object]:
    """Gathers finished runs: `rows` (one per model and context), paired differences, classical rows.

    A value is the mean over seeds, image by image; intervals are bootstrap 95 % over images of that.

    Args:
      config: of the study.
      workdir: of the study.
      dataset: of all runs.
      contexts: that all were tested in.
    """
    names, seeds, options = list(config.study.models), list(config.study.seeds), Options.of(config)
    archives = {name: [report.read_values(run_dir(workdir, name, seed)) for seed in seeds] for name in names}
    configs = {name: config_of(config, name, seeds[0]) for name in names}
    classical, values_of_classical = baselines.evaluate_classical(options, dataset, contexts)
    has_holes = any(context.is_hole for context in contexts.values())
    return {
        "data": dataset.name,
        "image_shape": list(dataset.train.shape[1:]),
        "num_training_images": len(dataset.train),
        "eval_split": config.data.eval_split,
        "protocol": config.protocol,
        "minutes": config.study.get("minutes", 0),
        "batch_size": config.train.batch_size,
        "learning_rate": config.train.learning_rate,
        "ema_decay": config.train.ema_decay,
        "seeds": seeds,
        "mask": config.mask.kind,
        "mask_fraction": list(config.mask.fraction),
        "hole_shares": {kind: share for kind, share in config.mask.hole_shares.items() if share},
        "target": config.objective.target,
        "has_one_target": len({one.objective.target for one in configs.values()}) == 1,
        "likelihood": config.model.get("likelihood"),
        "sigma": config.model.get("sigma"),
        "sigma_floor": config.model.get("sigma_floor"),
        "num_samples": config.evaluate.num_samples,
        "rounds": next(filter(None, (by_rounds.describe(Options.of(one)) for one in configs.values())), None),
        "changes": describe_changes(config),
        "models": {name: _facts(config, workdir, name, archives[name], contexts) for name in names},
        "contexts": {name: context.sha256 for name, context in contexts.items()},
        "rows": [row for name in names for row in _rows_of(name, archives[name], contexts, options)],
        "comparisons": _compare(config, archives, values_of_classical, contexts),
        "classical": classical,
        "missing": baselines.missing_methods(contexts) if classical else [],
        "published": [
            {"method": name, "mask": "random", "fraction": fraction, "psnr": psnr, "kl": kl}
            for name, of_model in config.study.get("published", ())
            for fraction, psnr, kl in of_model
        ],
        "published_inpainters": list(published.PUBLISHED) if has_holes else [],
    }


def _facts(config, workdir, name, archives, contexts):
    """What the table of models says of one."""
    directories = [run_dir(workdir, name, seed) for seed in config.study.seeds]
    step, key = config_of(config, name, 0).step, scores.key_of(next(iter(contexts.values())), "psnr")
    return {
        "num_parameters": report.read(directories[0])["num_parameters"],
        "num_steps": equal_time.num_steps_of(config, workdir, name),
        "training_seconds": mean_training_seconds(directories),
        "psnr_by_seed": [float(archive[key].mean()) for archive in archives],
        "adversarial": step.get("adversarial"),
        "num_critic_updates": step.get("num_critic_updates"),
        "fields": own_fields(config, name),
    }


def mean_training_seconds(directories: list[pathlib.Path]) -> float | None:
    """Measured seconds of training, compilation included, mean over runs; None where one has no metrics."""
    seconds = []
    for directory in directories:
        rows = metrics_file.read_metrics(directory)
        measured = [row["train/seconds"] for row in rows if "train/seconds" in row]
        if not measured:
            return None
        seconds.append(measured[-1])  # they add up over the rows
    return statistics.mean(seconds)


def _rows_of(name, archives, contexts, options):
    """The rows of one model, one per context; behind them those with its own finish."""
    rows = []
    for method, title in (("", name), (evaluate.BLENDED, f"{name}, {evaluate.BLENDED}")):
        for context in contexts.values():
            by_seed = [scores.select_values(context, archive, method=method) for archive in archives]
            mean = {metric: np.mean([one[metric] for one in by_seed], axis=0) for metric in by_seed[0]}
            if not mean:
                continue
            of_images = context.first(len(mean["psnr"]))
            row = scores.make_row(of_images, mean, seed=options.seed, method=title)
            if context.is_hole and not method:
                row["bins"] = scores.by_area(context, mean, seed=options.seed)
            rows.append(row)
    return rows


def _compare(config, archives: Archives, classical: scores.Values, contexts: Contexts) -> list[dict]:
    """Paired differences of the pairs that the study asks for, and in holes of every model and RIVALS."""
    found, seed = [], config.evaluate.seed
    for lower, higher in config.study.order:
        for context in contexts.values() if {lower, higher} <= set(archives) else ():
            for metric in COMPARED:
                key = scores.key_of(context, metric)
                if key in archives[lower][0]:
                    theirs, ours = (_mean_over_seeds(archives[name], key) for name in (lower, higher))
                    found.append(_difference(theirs, ours, seed, (lower, higher, metric), context))
    for rival in RIVALS:
        for name in archives:
            for context in contexts.values():
                theirs = classical.get(scores.key_of(context, "hole_psnr", method=rival))
                if theirs is not None:
                    ours = _mean_over_seeds(archives[name], scores.key_of(context, "hole_psnr"))[
                        : len(theirs)
                    ]
                    found.append(_difference(theirs, ours, seed, (rival, name, "hole_psnr"), context))
    return found


def _mean_over_seeds(archives, key):
    return np.mean([archive[key] for archive in archives], axis=0)


def _difference(theirs, ours, seed, names, context):
    """Mean over images of the second minus the first, with its interval."""
    difference = ours - theirs
    difference = difference[np.isfinite(difference)]
    interval = metrics.bootstrap_interval(difference, seed=seed)
    return dict(zip(("lower", "higher", "metric"), names, strict=True)) | {
        "mask": context.kind,
        "fraction": context.fraction,
        "num_images": len(difference),
        "difference": float(difference.mean()),
        "interval": list(interval),
    }
