"""A quick look at a model while it trains."""

import functools
from collections.abc import Callable

from ml_collections import ConfigDict

from ifanp_jax import objectives
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import holes
from ifanp_jax.evaluation.cells import draw_contexts
from ifanp_jax.evaluation.evaluate import evaluate_images
from ifanp_jax.training import Run

NUM_IMAGES = 256
FRACTION = 0.4  # observed
METRICS = ("psnr", "psnr_completed", "psnr_unobserved", "mse", "kl", "log_prob")


def make_validation(config: ConfigDict, dataset: Dataset) -> Callable[[Run], dict[str, float]]:
    """Returns `validate(run) -> {"val/psnr": ...}` on a few held-out images.

    Their contexts are random pixels of one fraction, or all but the centre square where holes are evaluated.
    `val/loss` is the loss of the training, where its step has one for held-out images.

    Args:
      config: the whole configuration; uses `evaluate.seed`.
      dataset: its first held-out images are completed.
    """
    images = dataset.evaluation[:NUM_IMAGES]

    @functools.cache  # drawn when first asked for: it takes a second, and the first step comes before
    def draw():
        shape, seed = images.shape[:3], config.evaluate.seed
        if holes.are_evaluated(config):
            contexts = holes.draw("centre", shape, seed=seed)
        else:
            contexts = draw_contexts(seed, "random", FRACTION, shape)
        targets = objectives.target_pixels(contexts, config.objective.target)
        return contexts, targets.sum(axis=(1, 2, 3)) * images.shape[-1]

    def validate(run):
        contexts, num_values = draw()
        values = evaluate_images(run.model, images, contexts)
        found = {f"val/{name}": float(values[name].mean()) for name in METRICS if name in values}
        if run.step.held_out_loss:
            found["val/loss"] = run.step.held_out_loss(values, num_values)
        return found

    return validate


def describe(config: ConfigDict, dataset: Dataset) -> str:
    """A sentence on what validation is; arguments as of `make_validation`."""
    count = min(NUM_IMAGES, len(dataset.evaluation))
    what = f"{FRACTION:.0%} of their pixels observed at random"
    if holes.are_evaluated(config):
        what = "all but the centre square observed"
    return f"Validation: {count} held-out images, {what}."
