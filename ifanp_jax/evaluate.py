"""The test protocol: fixed contexts, the same for every model, and the tables that come of them.

Latent samples are drawn from q(z | context) alone. The prediction is the mean over `num_samples` samples,
clipped to [0, 1]. `log_prob` is the importance-weighted bound with the same samples, in nats per value.
"""

import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import classical, metrics, objectives, state
from ifanp_jax.data import masks, sampling
from ifanp_jax.data.dataset import Dataset

PSNR_NAMES = ("psnr", "psnr_completed", "psnr_unobserved")


def list_cells(config: ConfigDict) -> list[tuple[str, float]]:
    """The (mask, observed fraction) pairs of `config.evaluate`."""
    cells = [("random", float(fraction)) for fraction in config.fractions]
    return cells + [(side, 0.5) for side in masks.HALVES] if config.halves else cells


def contexts(seed: int, kind: str, fraction: float, shape: tuple[int, int, int]) -> np.ndarray:
    """The fixed contexts of one cell: image i has the same one in every evaluation, whatever its batch.

    Args:
      seed: `config.evaluate.seed`.
      kind: "random" or a half.
      fraction: observed share for "random".
      shape: (N, H, W).

    Returns:
      bool (N, H, W, 1), True = observed.
    """
    n, h, w = shape
    if kind != "random":
        return np.asarray(masks.half(kind, shape))
    count = masks.count_pixels(fraction, h, w)
    cell_key = jax.random.fold_in(jax.random.key(seed), count)
    keys = jax.vmap(lambda index: jax.random.fold_in(cell_key, index))(jnp.arange(n))
    return np.asarray(jax.jit(jax.vmap(lambda key: masks.random(key, (1, h, w), count)[0]))(keys))


def make_evaluation(config: ConfigDict, model) -> Callable[..., dict[str, np.ndarray]]:
    """Returns `evaluate(params, images, contexts) -> per-image values`, compiled once per image shape.

    Args:
      config: the whole configuration.
      model: Flax module.

    Returns:
      A function of (params, uint8 (N, H, W, C), bool (N, H, W, 1)). It answers float arrays (N,): `psnr`,
      `psnr_completed`, `psnr_unobserved`, `mse`, `ssim` (of the completed image, where both sides are at
      least 11), `kl`, `log_prob`; and `kl_per_dim` (N, Z).
    """
    num_samples, target = config.evaluate.num_samples, config.objective.target
    key = jax.random.fold_in(jax.random.key(config.evaluate.seed), 1)

    @jax.jit
    def evaluate_batch(params, images, mask):
        image = sampling.to_float(images)
        variables = {"params": params}
        terms = model.apply(variables, image, mask, train=False, target=target, rngs={"sample": key})
        completion = model.apply(
            variables, image, mask, num_samples=num_samples, method="complete", rngs={"sample": key}
        )
        targets = objectives.target_pixels(mask, target)
        log_prob = objectives.importance_weighted_bound(
            objectives.gaussian_log_prob(image, completion.samples, completion.scale, targets)
        )
        num_values = jnp.maximum(targets.sum(axis=(1, 2, 3)), 1) * image.shape[-1]
        prediction = jnp.clip(completion.samples.mean(axis=0), 0, 1)
        values = {
            "psnr": metrics.psnr(prediction, image),
            "psnr_completed": metrics.psnr_completed(prediction, image, mask),
            "psnr_unobserved": metrics.psnr_unobserved(prediction, image, mask),
            "mse": metrics.mse(prediction, image),
            "kl": terms.kl,
            "kl_per_dim": terms.kl_per_dim,
            "log_prob": log_prob / num_values,
        }
        if min(image.shape[1:3]) >= metrics.SSIM_WINDOW:
            values["ssim"] = metrics.ssim(metrics.keep_observed(prediction, image, mask), image)
        return values

    def evaluate(params, images, contexts):
        batches = [
            {
                name: value[:size]
                for name, value in jax.device_get(evaluate_batch(params, image, mask)).items()
            }
            for image, mask, size in _padded_batches(images, contexts, config.evaluate.batch_size)
        ]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    return evaluate


def _padded_batches(
    images: np.ndarray, contexts: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Batches of one size, so that one compilation serves all, and how many images of each count."""
    for start in range(0, len(images), batch_size):
        image, mask = images[start : start + batch_size], contexts[start : start + batch_size]
        padding = ((0, batch_size - len(image)), (0, 0), (0, 0), (0, 0))
        yield np.pad(image, padding), np.pad(mask, padding), len(image)


def summarise(values: dict[str, np.ndarray], *, seed: int) -> dict[str, object]:
    """Means over images, and a bootstrap 95 % interval for each PSNR as `<name>_interval`."""
    cell = {}
    for name, value in values.items():
        cell[name] = value.mean(axis=0).tolist()
        if name in PSNR_NAMES:
            cell[f"{name}_interval"] = list(metrics.bootstrap_interval(value, seed=seed))
    cell["num_images"] = len(values["psnr"])
    return cell


def run(config: ConfigDict, model, train_state: state.TrainState, dataset: Dataset) -> dict[str, object]:
    """Evaluates a model and the classical methods on the same contexts.

    Args:
      config: the whole configuration.
      model: Flax module.
      train_state: its parameters (the moving average where there is one).
      dataset: the held-out part is evaluated; the classical Gaussian process takes its length scale from
        training images.

    Returns:
      What `evaluation.json` holds.
    """
    images = dataset.evaluation[: config.evaluate.num_images or None]
    evaluate_images = make_evaluation(config, model)
    cells = []
    for kind, fraction in list_cells(config.evaluate):
        context = contexts(config.evaluate.seed, kind, fraction, images.shape[:3])
        values = evaluate_images(train_state.evaluation_params, images, context)
        cells.append({"mask": kind, "fraction": fraction, **summarise(values, seed=config.evaluate.seed)})
    return {
        "model": config.model.name,
        "data": dataset.name,
        "step": int(train_state.step),
        "seed": config.seed,
        "num_parameters": state.count_parameters(train_state.params),
        "likelihood": config.model.get("likelihood"),
        "sigma_floor": config.model.get("sigma_floor"),
        "num_samples": config.evaluate.num_samples,
        "target": config.objective.target,
        "cells": cells,
        "classical": evaluate_classical(config.evaluate, dataset),
    }


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
    training_images = np.asarray(dataset.train[:16], np.float32) / 255
    length_scale = classical.select_length_scale(training_images, seed=config.seed)
    rows = []
    for kind, fraction in list_cells(config):
        context = contexts(config.seed, kind, fraction, images.shape[:3])
        completed = classical.evaluate(images, context, methods=methods, length_scale=length_scale)
        for method, prediction in completed.items():
            values = {
                "psnr": metrics.psnr(prediction, images),
                "psnr_completed": metrics.psnr_completed(prediction, images, context),
                "psnr_unobserved": metrics.psnr_unobserved(prediction, images, context),
                "mse": metrics.mse(prediction, images),
            }
            values = {name: np.asarray(value) for name, value in values.items()}
            rows.append(
                {"method": method, "mask": kind, "fraction": fraction} | summarise(values, seed=config.seed)
            )
    return rows


def best_classical(evaluation: dict, cell: dict) -> dict | None:
    """The classical row of the same mask and fraction with the highest `psnr_completed`, or None."""
    rows = [
        row
        for row in evaluation["classical"]
        if row["mask"] == cell["mask"] and math.isclose(row["fraction"], cell["fraction"])
    ]
    return max(rows, key=lambda row: row["psnr_completed"], default=None)


COLUMNS = ("context", "PSNR", "completed", "95 %", "unobserved", "classical", "MSE", "SSIM", "KL", "log p")


def table_rows(evaluation: dict) -> list[list[str]]:
    """The cells of the table as text, under `COLUMNS`."""
    rows = []
    for cell in evaluation["cells"]:
        best = best_classical(evaluation, cell)
        low, high = cell["psnr_completed_interval"]
        rows.append(
            [
                f"{cell['mask']} {cell['fraction']:.0%}",
                f"{cell['psnr']:.2f}",
                f"{cell['psnr_completed']:.2f}",
                f"{low:.2f}-{high:.2f}",
                f"{cell['psnr_unobserved']:.2f}",
                f"{best['psnr_completed']:.2f} {best['method'].replace('_', ' ')}" if best else "-",
                f"{cell['mse']:.4f}",
                f"{cell['ssim']:.3f}" if "ssim" in cell else "-",
                f"{cell['kl']:.3g}",
                f"{cell['log_prob']:.3f}",
            ]
        )
    return rows


def caption(evaluation: dict) -> str:
    """One line that says what the numbers are."""
    sigma = f", sigma floor {evaluation['sigma_floor']}" if evaluation["likelihood"] != "fixed" else ""
    count = evaluation["cells"][0]["num_images"] if evaluation["cells"] else 0
    return (
        f"{evaluation['model']} on {evaluation['data']}: step {evaluation['step']}, "
        f"{evaluation['num_parameters']:,} parameters, {count} held-out images. PSNR in dB of the raw "
        f"prediction (mean of {evaluation['num_samples']} samples), completed = with observed pixels kept "
        "(and its 95 % interval), unobserved = over the other pixels, classical = best interpolation, "
        "completed; KL in nats; log p in nats per value, importance-weighted with as many samples "
        f"(likelihood {evaluation['likelihood']}{sigma}, target {evaluation['target']})."
    )


def write(evaluation: dict, workdir: str | pathlib.Path) -> None:
    """Writes `evaluation.json` and `evaluation.md`."""
    lines = [caption(evaluation), "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(row) + " |" for row in table_rows(evaluation)]
    _write_whole(pathlib.Path(workdir) / "evaluation.md", "\n".join(lines) + "\n")
    _write_whole(pathlib.Path(workdir) / "evaluation.json", json.dumps(evaluation, indent=2) + "\n")


def _write_whole(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def print_table(evaluation: dict) -> None:
    """Prints the table to the terminal; it fits 80 columns, so the rest is left to `evaluation.md`."""
    import rich.console
    import rich.table

    table = rich.table.Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    shown = [name for name in COLUMNS if name != "MSE"]
    for name in shown:
        table.add_column(name, justify="left" if name == "context" else "right", no_wrap=True)
    for row in table_rows(evaluation):
        cells = dict(zip(COLUMNS, row, strict=True))
        cells["classical"] = cells["classical"].split()[0]
        table.add_row(*(cells[name] for name in shown))
    console = rich.console.Console()
    console.print(caption(evaluation), highlight=False)
    console.print(table)
