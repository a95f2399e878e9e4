"""What a model answers, compiled: completions, and how far they may be off."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.models.base import Completion


@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def complete_batch(key, model, variables, image, mask, *, num_samples, inside=None) -> Completion:
    """Runs the model's `complete`, compiled once per model, shape and number of samples S.

    Its samples and scale are float32 (S, B, H, W, C).

    Args:
      image: float32 (B, H, W, C).
      mask: bool (B, H, W, 1).
      inside: bool (1 or B, H, W, 1), False in padding; for models with a `tile_margin` alone.
    """
    call = {"num_samples": num_samples} | ({} if inside is None else {"inside": inside})
    completion = model.apply(variables, image, mask, method="complete", rngs={"sample": key}, **call)
    return jax.tree.map(lambda x: x.astype(jnp.float32), completion)


def predictive_deviation(samples: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Standard deviation of the predictive mixture: sqrt(variance of the means + mean of scale^2).

    The means are (S, B, H, W, C), and so is the scale; None counts as 0.
    """
    within = 0 if scale is None else np.square(scale).mean(axis=0)
    return np.sqrt(samples.var(axis=0) + within)
