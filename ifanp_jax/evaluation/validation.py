"""A quick look at a model while it trains."""

from collections.abc import Callable

from ml_collections import ConfigDict

from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation.cells import draw_contexts
from ifanp_jax.evaluation.evaluate import evaluate_images
from ifanp_jax.training import Run

NUM_IMAGES = 256
FRACTION = 0.4  # observed
METRICS = ("psnr", "psnr_completed", "psnr_unobserved", "mse", "kl", "log_prob")


def make_validation(config: ConfigDict, dataset: Dataset) -> Callable[[Run], dict[str, float]]:
    """Returns `validate(run) -> {"val/psnr": ...}` on a few held-out images at one context fraction.

    Args:
      config: the whole configuration; uses `evaluate.seed`.
      dataset: its first held-out images are completed.
    """
    images = dataset.evaluation[:NUM_IMAGES]
    contexts = draw_contexts(config.evaluate.seed, "random", FRACTION, images.shape[:3])

    def validate(run):
        values = evaluate_images(run, images, contexts)
        return {f"val/{name}": float(values[name].mean()) for name in METRICS if name in values}

    return validate
