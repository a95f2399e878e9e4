"""Variables of a model: drawn, described and counted."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def init_variables(key: jax.Array, model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Draws the variables of a model for images (H, W, C): `params` and its other collections, float32."""
    h, w, c = image_shape
    image, mask = jnp.zeros((1, h, w, c)), jnp.ones((1, h, w, 1), bool)
    params_key, sample_key = jax.random.split(key)
    return model.init({"params": params_key, "sample": sample_key}, image, mask, train=True)


def abstract_variables(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Shapes and dtypes of what `init_variables` draws; nothing is computed."""
    return jax.eval_shape(lambda key: init_variables(key, model, image_shape), jax.random.key(0))


def count_parameters(params: Any) -> int:
    """Returns the number of values in a tree of arrays."""
    return sum(x.size for x in jax.tree.leaves(params))
