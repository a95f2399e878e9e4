"""The training state: everything that a checkpoint must hold."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """State of a training; data and noise follow from the seed and `step`.

    Attributes:
      step: int32 scalar, optimiser steps done.
      params: the model's parameters.
      opt_state: the optimiser's state.
      ema_params: moving average of the parameters, or None where none is kept.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    ema_params: Any

    @property
    def evaluation_params(self) -> Any:
        """The parameters to evaluate with: the moving average where there is one."""
        return self.params if self.ema_params is None else self.ema_params


def init_params(key: jax.Array, model: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    """Draws the parameters of a model for images (H, W, C); a tree of float32 arrays."""
    h, w, c = image_shape
    image, mask = jnp.zeros((1, h, w, c)), jnp.ones((1, h, w, 1), bool)
    params_key, sample_key = jax.random.split(key)
    variables = model.init({"params": params_key, "sample": sample_key}, image, mask, train=True)
    return variables["params"]


def init_state(
    key: jax.Array,
    model: nn.Module,
    tx: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    *,
    has_ema: bool,
) -> TrainState:
    """Allocates the state at step 0.

    Args:
      key: PRNG key of the parameters.
      model: any model of `ifanp_jax.models`.
      tx: the optimiser.
      image_shape: (H, W, C); parameters do not depend on H and W.
      has_ema: whether to keep a moving average of the parameters.
    """
    params = init_params(key, model, image_shape)
    ema_params = jax.tree.map(jnp.copy, params) if has_ema else None
    return TrainState(step=jnp.int32(0), params=params, opt_state=tx.init(params), ema_params=ema_params)


def count_parameters(params: Any) -> int:
    """Returns the number of values in a tree of arrays."""
    return sum(x.size for x in jax.tree.leaves(params))


@jax.jit
def is_finite(tree: Any) -> jax.Array:
    """Whether every value of a tree of arrays is finite, as a bool scalar."""
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))
