"""What a model answers, compiled: completions, and how far they may be off."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.models.base import Completion


@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def complete_batch(key, model, variables, image, mask, *, num_samples, inside=None) -> Completion:
    """Runs the model's `complete`, compiled once per model, shape and number of samples.

    Args:
      key: PRNG key of the draws.
      model: Flax module.
      variables: its parameters and other collections.
      image: float32 (B, H, W, C).
      mask: bool (B, H, W, 1).
      num_samples: S.
      inside: bool (1 or B, H, W, 1), False in padding; for models with a `tile_margin` alone.

    Returns:
      Float32 samples (S, B, H, W, C) and, where the model has one, their scale.
    """
    call = {"num_samples": num_samples} | ({} if inside is None else {"inside": inside})
    completion = model.apply(variables, image, mask, method="complete", rngs={"sample": key}, **call)
    return jax.tree.map(lambda x: x.astype(jnp.float32), completion)


def sample_deviation(samples: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Root mean square distance of samples from a prediction.

    Args:
      samples: float32 (S, B, H, W, C).
      center: float32 (B, H, W, C).

    Returns:
      float32 (B, H, W, C).
    """
    return np.sqrt(np.square(samples - center).mean(axis=0))


def predictive_deviation(samples: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Standard deviation of the predictive mixture: sqrt(variance of the means + mean of scale^2).

    Args:
      samples: float32 (S, B, H, W, C), predicted means.
      scale: float32 (S, B, H, W, C), the likelihood's standard deviations; None counts as 0.

    Returns:
      float32 (B, H, W, C).
    """
    within = 0 if scale is None else np.square(scale).mean(axis=0)
    return np.sqrt(samples.var(axis=0) + within)
