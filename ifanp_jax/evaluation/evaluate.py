"""The test protocol: fixed contexts, the same for every model, and the tables that come of them.

Latent samples are drawn from q(z | context) alone. The prediction is the mean over `num_samples` samples,
clipped to [0, 1]. `log_prob` is the importance-weighted bound with the same samples, in nats per value.
"""

import functools
import json
import logging
import math
import pathlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import files, metrics, objectives
from ifanp_jax.data import masks, sampling
from ifanp_jax.data.dataset import Dataset, describe_images
from ifanp_jax.evaluation import classical
from ifanp_jax.metrics import calibration
from ifanp_jax.training import parameters

logger = logging.getLogger(__name__)

PSNR_NAMES = ("psnr", "psnr_completed", "psnr_unobserved")


def list_cells(config: ConfigDict) -> list[tuple[str, float]]:
    """The (mask, observed fraction) pairs of `config.evaluate`."""
    cells = [("random", float(fraction)) for fraction in config.fractions]
    uniform = config.get("uniform_fraction", 0.0)  # runs of older versions do not have it
    cells += [("uniform", float(uniform))] if uniform else []
    return cells + [(side, 0.5) for side in masks.HALVES] if config.halves else cells


def contexts(seed: int, kind: str, fraction: float, shape: tuple[int, int, int]) -> np.ndarray:
    """The fixed contexts of one cell: image i has the same one in every evaluation, whatever its batch.

    Args:
      seed: `config.evaluate.seed`.
      kind: "random", "uniform" or a half.
      fraction: observed share for "random", the largest one for "uniform", whose images each have their own.
      shape: (N, H, W).

    Returns:
      bool (N, H, W, 1), True = observed.
    """
    n, h, w = shape
    if kind in masks.HALVES:
        return np.asarray(masks.half(kind, shape))
    count = masks.count_pixels(fraction, h, w)
    cell_key = jax.random.fold_in(jax.random.key(seed), count)
    keys = jax.vmap(lambda index: jax.random.fold_in(cell_key, index))(jnp.arange(n))

    def draw(key):
        if kind == "random":
            return masks.random(key, (1, h, w), count)[0]
        count_key, place_key = jax.random.split(key)
        return masks.random(place_key, (1, h, w), jax.random.randint(count_key, (), 0, count + 1))[0]

    return np.asarray(jax.jit(jax.vmap(draw))(keys))


def make_evaluation(config: ConfigDict, model) -> Callable[..., dict[str, np.ndarray]]:
    """Returns `evaluate(params, images, contexts) -> per-image values`.

    Args:
      config: the whole configuration.
      model: Flax module.

    Returns:
      A function of (params, uint8 (N, H, W, C), bool (N, H, W, 1)); it answers what `evaluate_batch` does.
    """
    key = jax.random.fold_in(jax.random.key(config.evaluate.seed), 1)
    options = {"num_samples": config.evaluate.num_samples, "target": config.objective.target}

    def evaluate(params, images, contexts):
        batches = []
        for image, mask, size in _padded_batches(images, contexts, config.evaluate.batch_size):
            values = jax.device_get(evaluate_batch(key, model, params, image, mask, **options))
            batches.append({name: value[:size] for name, value in values.items()})
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    return evaluate


@functools.partial(jax.jit, static_argnames=("model", "num_samples", "target"))
def evaluate_batch(key, model, params, images, mask, *, num_samples, target):
    """Evaluates a batch; compiled once per model, shape and options.

    Args:
      key: PRNG key of the latent samples.
      model: Flax module.
      params: its parameters.
      images: uint8 (B, H, W, C).
      mask: bool (B, H, W, 1), True = observed.
      num_samples: latent samples per image.
      target: "all" or "unobserved" pixels in `log_prob`.

    Returns:
      float32 (B,) each: `psnr`, `psnr_completed`, `psnr_unobserved`, `mse`, `ssim` (of the completed image,
      where both sides are at least 11), `kl`, `log_prob` (per value) and
      `log_prob_per_image`; `crps` over the unobserved pixels; `kl_per_dim`
      (B, Z), and `coverage` (B, L) of the unobserved pixels at `calibration.LEVELS`.
    """
    image = sampling.to_float(images)
    variables, rngs = {"params": params}, {"sample": key}
    terms = model.apply(variables, image, mask, train=False, target=target, rngs=rngs)
    completion = model.apply(variables, image, mask, num_samples=num_samples, method="complete", rngs=rngs)
    targets = objectives.target_pixels(mask, target)
    log_prob = objectives.importance_weighted_bound(
        objectives.gaussian_log_prob(image, completion.samples, completion.scale, targets)
    )
    num_values = jnp.maximum(targets.sum(axis=(1, 2, 3)), 1) * image.shape[-1]
    prediction = jnp.clip(completion.samples.mean(axis=0), 0, 1)
    values = compare(prediction, image, mask)
    values |= {"kl": terms.kl, "kl_per_dim": terms.kl_per_dim, "log_prob": log_prob / num_values}
    values["log_prob_per_image"] = log_prob
    transform = calibration.probability_integral_transform(completion.samples, completion.scale, image)
    values["coverage"] = calibration.coverage(transform, ~mask, calibration.LEVELS)
    values["crps"] = calibration.crps(completion.samples, completion.scale, image, ~mask)
    if min(image.shape[1:3]) >= metrics.SSIM_WINDOW:
        values["ssim"] = metrics.ssim(metrics.keep_observed(prediction, image, mask), image)
    return values


def compare(prediction: jax.Array, image: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """The metrics that any method has: three PSNRs in dB and the MSE, (B,) each.

    Args:
      prediction: float32 (B, H, W, C) in [0, 1].
      image: float32 (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.
    """
    return {
        "psnr": metrics.psnr(prediction, image),
        "psnr_completed": metrics.psnr_completed(prediction, image, mask),
        "psnr_unobserved": metrics.psnr_unobserved(prediction, image, mask),
        "mse": metrics.mse(prediction, image),
    }


def _padded_batches(
    images: np.ndarray, contexts: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Batches of one size, so that one compilation serves all, and how many images of each count."""
    for start in range(0, len(images), batch_size):
        image, mask = images[start : start + batch_size], contexts[start : start + batch_size]
        padding = ((0, batch_size - len(image)), (0, 0), (0, 0), (0, 0))
        yield np.pad(image, padding), np.pad(mask, padding), len(image)


def summarise(values: dict[str, np.ndarray], *, seed: int) -> dict[str, object]:
    """Means over images, and a bootstrap 95 % interval for each PSNR as `<name>_interval`.

    Args:
      values: (N,) or (N, L) by name, one row per image.
      seed: of the bootstrap.
    """
    cell = {}
    for name, value in values.items():
        cell[name] = value.mean(axis=0).tolist()
        if name in PSNR_NAMES:
            cell[f"{name}_interval"] = list(metrics.bootstrap_interval(value, seed=seed))
    cell["num_images"] = len(values["psnr"])
    return cell


def evaluate_cells(
    config: ConfigDict, model, train_state: parameters.TrainState, images: np.ndarray
) -> dict[tuple[str, float], dict[str, np.ndarray]]:
    """Evaluates every (mask, fraction) of the protocol.

    Args:
      config: the whole configuration.
      model: Flax module.
      train_state: its parameters (the moving average where there is one).
      images: uint8 (N, H, W, C), held out.

    Returns:
      What `evaluate_batch` answers, one row per image, by (mask, fraction).
    """
    evaluate_images = make_evaluation(config, model)
    return {
        (kind, fraction): evaluate_images(
            train_state.evaluation_params,
            images,
            contexts(config.evaluate.seed, kind, fraction, images.shape[:3]),
        )
        for kind, fraction in list_cells(config.evaluate)
    }


def run(
    config: ConfigDict, model, train_state: parameters.TrainState, dataset: Dataset
) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """Evaluates a model and the classical methods on the same contexts.

    Args:
      config: the whole configuration.
      model: Flax module.
      train_state: its parameters (the moving average where there is one).
      dataset: the held-out part is evaluated; the classical Gaussian process takes its length scale from
        training images.

    Returns:
      What `evaluation.json` holds, and what `evaluation.npz` holds: the values per image.
    """
    images = dataset.evaluation[: config.evaluate.num_images or None]
    logger.info("Evaluating %s on %d held-out images of %s.", config.model.name, len(images), dataset.name)
    cells, values_per_image = [], {}
    for (kind, fraction), values in evaluate_cells(config, model, train_state, images).items():
        cells.append({"mask": kind, "fraction": fraction, **summarise(values, seed=config.evaluate.seed)})
        values_per_image |= {value_name(kind, fraction, name): value for name, value in values.items()}
    return {
        "model": config.model.name,
        "protocol": config.get("protocol", ""),
        "data": dataset.name,
        "image_shape": list(images.shape[1:]),
        "training_images": describe_images(dataset.train),
        "held_out_images": describe_images(images),
        "step": int(train_state.step),
        "seed": config.seed,
        "num_parameters": parameters.count_parameters(train_state.params),
        "likelihood": config.model.get("likelihood"),
        "sigma": config.model.get("sigma"),
        "sigma_floor": config.model.get("sigma_floor"),
        "num_samples": config.evaluate.num_samples,
        "target": config.objective.target,
        "coverage_levels": list(calibration.LEVELS),
        "cells": cells,
        "classical": evaluate_classical(config.evaluate, dataset),
    }, values_per_image


def value_name(kind: str, fraction: float, name: str) -> str:
    """The key of `evaluation.npz` under which a cell's values of one metric stand, one row per image."""
    return f"{kind} {fraction:g} {name}"


def evaluate_classical(config: ConfigDict, dataset: Dataset) -> list[dict[str, object]]:
    """Evaluates interpolation on the first images of the same contexts.

    Args:
      config: `config.evaluate`.
      dataset: held-out images, and training images for the Gaussian process's length scale.

    Returns:
      One row per method, mask and fraction.
    """
    limit = min(config.classical_images, config.num_images or config.classical_images)
    images = np.asarray(dataset.evaluation[:limit], np.float32) / 255
    if not len(images):
        return []
    methods = classical.methods_for(*images.shape[1:3])
    logger.info("Evaluating interpolation (%s) on %d of them.", ", ".join(methods), len(images))
    training_images = np.asarray(dataset.train[:16], np.float32) / 255
    options = {}
    if "gaussian_process" in methods:
        options["length_scale"] = classical.select_length_scale(training_images, seed=config.seed)
    rows = []
    for kind, fraction in list_cells(config):
        context = contexts(config.seed, kind, fraction, images.shape[:3])
        completed = classical.evaluate(images, context, methods=methods, **options)
        for method, prediction in completed.items():
            values = {name: np.asarray(value) for name, value in compare(prediction, images, context).items()}
            rows.append(
                {"method": method, "mask": kind, "fraction": fraction} | summarise(values, seed=config.seed)
            )
    return rows


def classical_rows(evaluation: dict, cell: dict) -> list[dict]:
    """The classical rows of a cell's mask and fraction, one per method."""
    return [
        row
        for row in evaluation["classical"]
        if row["mask"] == cell["mask"] and math.isclose(row["fraction"], cell["fraction"])
    ]


def best_classical(evaluation: dict, cell: dict) -> dict | None:
    """The classical row of a cell with the highest `psnr_completed`, or None."""
    return max(classical_rows(evaluation, cell), key=lambda row: row["psnr_completed"], default=None)


COLUMNS = (
    "context", "PSNR", "completed", "95 %", "unobserved", "classical", "MSE", "SSIM", "KL", "log p", "CRPS",
    "in 50/80/95 %",
)  # fmt: skip
SHOWN_LEVELS = (0.5, 0.8, 0.95)


def label(cell: dict) -> str:
    """What the tables call a cell: its mask and observed share."""
    if cell["mask"] == "uniform":
        return f"random 0-{cell['fraction']:.0%}"
    return f"{cell['mask']} {cell['fraction']:.0%}"


def table_rows(evaluation: dict) -> list[list[str]]:
    """The cells of the table as text, under `COLUMNS`."""
    rows = []
    for cell in evaluation["cells"]:
        best = best_classical(evaluation, cell)
        low, high = cell["psnr_completed_interval"]
        rows.append(
            [
                label(cell),
                f"{cell['psnr']:.2f}",
                f"{cell['psnr_completed']:.2f}",
                f"{low:.2f}-{high:.2f}",
                f"{cell['psnr_unobserved']:.2f}",
                f"{best['psnr_completed']:.2f} {best['method'].replace('_', ' ')}" if best else "-",
                f"{cell['mse']:.4f}",
                f"{cell['ssim']:.3f}" if "ssim" in cell else "-",
                f"{cell['kl']:.3g}",
                f"{cell['log_prob']:.3f}",
                f"{cell['crps']:.4f}",
                show_coverage(cell),
            ]
        )
    return rows


def show_shape(evaluation: dict) -> str:
    """Height, width and channels, as "32x32x3"."""
    return "x".join(map(str, evaluation["image_shape"]))


def show_protocol(evaluation: dict) -> str:
    """Names the protocol, where one was asked for."""
    return f", protocol {evaluation['protocol']}" if evaluation["protocol"] else ""


def show_coverage(cell: dict) -> str:
    """The shares of true values inside the central intervals of `SHOWN_LEVELS`, as "49%/78%/93%"."""
    shares = (cell["coverage"][calibration.LEVELS.index(level)] for level in SHOWN_LEVELS)
    return "/".join(f"{share:.0%}" for share in shares)


def caption(evaluation: dict) -> str:
    """One line that says what the numbers are."""
    name = "sigma" if evaluation["likelihood"] == "fixed" else "sigma_floor"
    sigma = f"{name.replace('_', ' ')} {evaluation[name]}"
    count = evaluation["cells"][0]["num_images"] if evaluation["cells"] else 0
    num_classical = evaluation["classical"][0]["num_images"] if evaluation["classical"] else 0
    return (
        f"{evaluation['model']} on {evaluation['data']} {show_shape(evaluation)}: step {evaluation['step']}, "
        f"{evaluation['num_parameters']:,} parameters, {count} held-out images"
        f"{show_protocol(evaluation)}. PSNR in dB of the raw "
        f"prediction (mean of {evaluation['num_samples']} samples), completed = with observed pixels kept "
        "(and its 95 % interval), unobserved = over the other pixels, classical = best interpolation, "
        f"completed, on the first {num_classical} images; KL in nats; log p in nats per value, "
        f"importance-weighted with as many samples (likelihood {evaluation['likelihood']}, {sigma}, "
        f"target {evaluation['target']}); CRPS in intensities and the share of true values inside the "
        "central 50, 80 and 95 % intervals, over unobserved pixels."
    )


def write(evaluation: dict, values: dict[str, np.ndarray], workdir: str | pathlib.Path) -> None:
    """Writes `evaluation.md`, `evaluation.npz` (the values per image) and, last, `evaluation.json`.

    Args:
      evaluation: from `run`.
      values: from `run`.
      workdir: that exists.
    """
    with files.replacing(pathlib.Path(workdir) / "evaluation.npz") as unfinished:
        np.savez(unfinished, **values)
    lines = [caption(evaluation), "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(row) + " |" for row in table_rows(evaluation)]
    methods = list(dict.fromkeys(row["method"] for row in evaluation["classical"]))
    if methods:
        lines += ["", "Interpolation, PSNR of the completed image in dB:", ""]
        lines += ["| context | " + " | ".join(methods) + " |", "|" + "---|" * (len(methods) + 1)]
        for cell in evaluation["cells"]:
            rows = {row["method"]: row["psnr_completed"] for row in classical_rows(evaluation, cell)}
            values = (f"{rows[method]:.2f}" for method in methods)
            lines.append(f"| {label(cell)} | " + " | ".join(values) + " |")
    files.write_whole(pathlib.Path(workdir) / "evaluation.md", "\n".join(lines) + "\n")
    files.write_whole(pathlib.Path(workdir) / "evaluation.json", json.dumps(evaluation, indent=2) + "\n")


def print_table(evaluation: dict) -> None:
    """Prints the table to the terminal; it fits 80 columns, so the rest is left to `evaluation.md`."""
    import rich.console
    import rich.table

    table = rich.table.Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    shown = [name for name in COLUMNS if name not in ("MSE", "CRPS", "in 50/80/95 %")]
    for name in shown:
        table.add_column(name, justify="left" if name == "context" else "right", no_wrap=True)
    for row in table_rows(evaluation):
        cells = dict(zip(COLUMNS, row, strict=True))
        cells["classical"] = cells["classical"].split()[0]
        table.add_row(*(cells[name] for name in shown))
    console = rich.console.Console()
    console.print(caption(evaluation), highlight=False)
    console.print(table)
