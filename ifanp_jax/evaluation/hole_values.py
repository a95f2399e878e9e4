"""What tables say of completions of holes: of a model on every held-out image, of classical methods on some.

A row holds means over images of everything that `metrics.inpainting.measure` answers, with bootstrap 95 %
intervals. An image where there is nothing to measure, such as SSIM in a hole at the border, is left out.
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax import metrics
from ifanp_jax.classical import interpolation, opencv
from ifanp_jax.data import sampling
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import baselines, batches, holes
from ifanp_jax.inference import predict
from ifanp_jax.inference.model import Model
from ifanp_jax.metrics import inpainting

logger = logging.getLogger(__name__)

FINISHED_IMAGES = 500  # first held-out images that a model's own finish is tested on

Values = dict[str, np.ndarray]  # float32 (N,) by metric


def evaluate(model: Model, dataset: Dataset, masks: holes.Holes) -> tuple[dict[str, object], Values]:
    """Evaluates a model and the classical methods over the same holes.

    Args:
      model: trained; its configuration says how it is evaluated.
      dataset: its held-out images are completed.
      masks: from `holes.keep`.

    Returns:
      `rows`, one for each kind of hole, with the same for each range of the hole's area in `bins`;
      `finished`, those of the model with its own finish, and `classical`; `missing`, the names of methods
      that need OpenCV where it is not installed. And the values per image, under the names of `value_name`.
    """
    rows, values = [], {}
    images = dataset.evaluation[: model.config.evaluate.num_images or None]
    seed, name = model.config.evaluate.seed, model.config.model.name
    for kind, mask in masks.items():
        logger.info("Completing holes: %s.", kind)
        found = evaluate_images(model, images, mask)
        rows.append(make_row(kind, name, found, mask, seed=seed) | {"bins": by_area(found, mask, seed=seed)})
        values |= {value_name(kind, name): value for name, value in found.items()}
    classical_rows, more = evaluate_classical(model.config.evaluate, dataset, masks)
    finished_rows, finished = _evaluate_finished(model, dataset, masks)
    evaluation = {"rows": rows, "finished": finished_rows, "classical": classical_rows}
    evaluation["missing"] = missing_methods(classical_rows)
    return evaluation, values | more | finished


def evaluate_images(model: Model, images: np.ndarray, mask: np.ndarray) -> Values:
    """Completes images and measures the answers.

    Args:
      model: trained; its configuration says how it is evaluated.
      images: uint8 (N, H, W, C).
      mask: bool (N, H, W, 1), True = observed.
    """
    config = model.config.evaluate
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    call = functools.partial(_measure_batch, key, model.module, num_samples=config.num_samples)
    return batches.measure(call, model.variables, images, mask, batch_size=config.batch_size)


@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def _measure_batch(key, model, variables, images, mask, *, num_samples):
    image = sampling.to_float(images)
    return inpainting.measure(_predict(key, model, variables, image, mask, num_samples), image, mask)


def _predict(key, model, variables, image, mask, num_samples):
    """The mean of the samples, float32 (B, H, W, C) in [0, 1]."""
    completion = predict.complete_batch(key, model, variables, image, mask, num_samples=num_samples)
    return jnp.clip(completion.samples.mean(axis=0), 0, 1)


def complete_images(model: Model, images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The answers of a model, the mean of its samples.

    Args:
      model: trained; its configuration says how it is evaluated.
      images: float32 (N, H, W, C) in [0, 1].
      mask: bool (N, H, W, 1), True = observed.

    Returns:
      float32 (N, H, W, C) in [0, 1], known pixels kept.
    """
    config = model.config.evaluate
    key = jax.random.fold_in(jax.random.key(config.seed), 1)

    def complete(variables, image, mask):
        return {"answer": _predict(key, model.module, variables, image, mask, config.num_samples)}

    # No more at once than in an evaluation, and no filling up of a few images to a whole batch.
    size = max(1, min(config.batch_size, len(images)))
    answer = batches.measure(complete, model.variables, images, mask, batch_size=size)["answer"]
    return np.where(mask, images, answer)


def evaluate_classical(config, dataset: Dataset, masks: holes.Holes) -> tuple[list[dict], Values]:
    """Evaluates `classical.HOLE_METHODS` on the first `config.classical_images` images.

    Args:
      config: `config.evaluate`.
      dataset: its held-out images are completed.
      masks: from `holes.keep`.

    Returns:
      One row for each method and kind of hole, and the values per image.
    """
    images = baselines.first_images(config, dataset)
    if not len(images) or not masks:
        return [], {}
    methods, _ = interpolation.hole_methods()
    logger.info("Completing holes by classical methods (%s), %d images.", ", ".join(methods), len(images))
    rows, values = [], {}
    for kind, mask in masks.items():
        mask = mask[: len(images)]
        for method, answer in interpolation.complete_images(images, mask, methods=methods).items():
            found = measure(answer, images, mask)
            rows.append(make_row(kind, method, found, mask, seed=config.seed))
            values |= {value_name(kind, name, method=method): value for name, value in found.items()}
    return rows, values


def missing_methods(rows: list[dict]) -> list[str]:
    """Names of methods that need OpenCV, where it is not installed; none where there are no classical rows.

    Args:
      rows: from `evaluate_classical`.
    """
    return list(interpolation.hole_methods()[1]) if rows else []


def _evaluate_finished(model, dataset, masks):
    """The same of a model whose paper blends its answers by OpenCV afterwards."""
    config = model.config.evaluate
    images = dataset.evaluation[: config.num_images or None][:FINISHED_IMAGES].astype(np.float32) / 255
    is_finished = (
        getattr(model.module, "is_finished_by_blending", False) and not interpolation.hole_methods()[1]
    )
    rows, values = [], {}
    for kind, mask in masks.items() if is_finished and len(images) else ():
        mask = mask[: len(images)]
        completed = complete_images(model, images, mask)
        blended = [opencv.blend(*one) for one in zip(completed, images, mask, strict=True)]
        found = measure(np.stack(blended), images, mask)
        name = f"{model.config.model.name}, blended"
        rows.append(make_row(kind, name, found, mask, seed=config.seed))
        values |= {value_name(kind, metric, method="blended"): value for metric, value in found.items()}
    return rows, values


def measure(answer: np.ndarray, images: np.ndarray, mask: np.ndarray) -> Values:
    """`metrics.inpainting.measure` of arrays on the host; arguments as of that."""
    return {name: np.asarray(value) for name, value in inpainting.measure(answer, images, mask).items()}


def make_row(kind: str, method: str, values: Values, mask: np.ndarray, *, seed: int) -> dict[str, object]:
    """A row: what was completed, by what, and the means.

    Args:
      kind: of hole.
      method: name of the model or method.
      values: per image.
      mask: bool (N, H, W, 1) of these images.
      seed: of the bootstrap.
    """
    facts = {"hole": kind, "method": method, "sha256": inpainting.hash_masks(mask)}
    return facts | {"hole_fraction": float((~mask).mean())} | summarise(values, seed=seed)


def summarise(values: Values, *, seed: int) -> dict[str, object]:
    """Means over the images where there is a value, and their bootstrap intervals as `<name>_interval`.

    Args:
      values: per image; NaN where there is none.
      seed: of the bootstrap.
    """
    row = {"num_images": len(next(iter(values.values())))}
    for name, value in values.items():
        value = value[np.isfinite(value)]
        if len(value):
            row[name] = float(value.mean())
            row[f"{name}_interval"] = list(metrics.bootstrap_interval(value, seed=seed))
    return row


def by_area(values: Values, mask: np.ndarray, *, seed: int) -> list[dict[str, object]]:
    """`summarise` for each of `HOLE_BINS` that some hole falls into; none where all fall into one.

    Args:
      values: per image.
      mask: bool (N, H, W, 1), True = observed.
      seed: of the bootstrap.
    """
    bins = inpainting.find_hole_bins(mask)
    if len(set(bins)) < 2:
        return []
    return [
        {"bin": name} | summarise({key: value[bins == index] for key, value in values.items()}, seed=seed)
        for index, name in enumerate(inpainting.HOLE_BINS)
        if (bins == index).any()
    ]


def value_name(kind: str, metric: str, *, method: str = "") -> str:
    """The key of `evaluation.npz` under which the values per image of one kind of hole stand.

    Args:
      kind: of hole.
      metric: of `metrics.inpainting.measure`.
      method: classical one; "" = the model.
    """
    return f"hole {kind} {metric}" + (f" by {method}" if method else "")
