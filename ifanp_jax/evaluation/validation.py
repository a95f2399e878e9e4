"""A quick look at a model while it trains."""

import functools
from collections.abc import Callable

from ml_collections import ConfigDict

from ifanp_jax import objectives
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation.contexts import make_context
from ifanp_jax.evaluation.evaluate import evaluate_images
from ifanp_jax.evaluation.options import Options
from ifanp_jax.training import Run

NUM_IMAGES = 256
FRACTION = 0.4  # observed
METRICS = ("psnr", "psnr_completed", "psnr_unobserved", "mse", "kl", "log_prob")


def make_validation(config: ConfigDict, dataset: Dataset) -> Callable[[Run], dict[str, float]]:
    """Returns `validate(run) -> {"val/psnr": ...}` on a few held-out images.

    Their contexts are random pixels of one fraction, or all but the centre square where holes are evaluated.
    `val/loss` is the loss of the training, where its step has one for held-out images.
    """
    images, options = dataset.evaluation[:NUM_IMAGES], Options.of(config)

    @functools.cache  # drawn when first asked for: it takes a second, and the first step comes before
    def draw():
        kind = "centre" if options.has_holes else "random"
        masks = make_context(kind, images.shape[:3], fraction=FRACTION, seed=options.seed).masks
        targets = objectives.target_pixels(masks, options.target)
        return masks, targets.sum(axis=(1, 2, 3)) * images.shape[-1]

    def validate(run):
        masks, num_values = draw()
        values = evaluate_images(run.model, images, masks, options)
        found = {f"val/{name}": float(values[name].mean()) for name in METRICS if name in values}
        if run.step.held_out_loss:
            found["val/loss"] = run.step.held_out_loss(values, num_values)
        return found

    return validate


def describe(options: Options, dataset: Dataset) -> str:
    """A sentence on what validation is."""
    count = min(NUM_IMAGES, len(dataset.evaluation))
    what = f"{FRACTION:.0%} of their pixels observed at random"
    if options.has_holes:
        what = "all but the centre square observed"
    return f"Validation: {count} held-out images, {what}."
