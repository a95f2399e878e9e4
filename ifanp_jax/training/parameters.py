"""Trees of parameters: made, averaged, counted and checked."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax


def init_variables(key: jax.Array, model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Draws the variables of a model for images (H, W, C): `params` and its other collections, float32."""
    h, w, c = image_shape
    image, mask = jnp.zeros((1, h, w, c)), jnp.ones((1, h, w, 1), bool)
    params_key, sample_key = jax.random.split(key)
    return model.init({"params": params_key, "sample": sample_key}, image, mask, train=True)


def abstract_variables(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Shapes and dtypes of what `init_variables` draws; nothing is computed."""
    return jax.eval_shape(lambda key: init_variables(key, model, image_shape), jax.random.key(0))


def update_average(average: Any, params: Any, decay: float, step: jax.Array) -> Any:
    """Moves an average of the parameters on: decay * average + (1 - decay) * params.

    Args:
      average: tree like `params`, or None where none is kept.
      params: after the update.
      decay: in [0, 1).
      step: optimiser steps done before; the decay warms up with it.
    """
    if average is None:
        return None
    # The warm-up of the average: early on it must not hold the initial parameters.
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, average, 1 - decay)


def count_parameters(params: Any) -> int:
    """Returns the number of values in a tree of arrays."""
    return sum(x.size for x in jax.tree.leaves(params))


@jax.jit
def is_finite(tree: Any) -> jax.Array:
    """Whether every value of a tree of arrays is finite, as a bool scalar."""
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))
