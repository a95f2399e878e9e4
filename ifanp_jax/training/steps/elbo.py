"""The ELBO step: one network, one optimiser."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ifanp_jax import metrics, objectives
from ifanp_jax.models import parameters
from ifanp_jax.models.base import Terms
from ifanp_jax.training import optimizer
from ifanp_jax.training.steps import Step


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


def make_step(config: ConfigDict, model: nn.Module) -> Step:
    """Builds the step on the negative ELBO of a neural process or VAE, from the whole configuration."""
    tx = optimizer.make_optimizer(config.train)
    has_ema = config.train.ema_decay > 0

    def init(key, image_shape, *, variables=None):
        params = (variables or parameters.init_variables(key, model, image_shape))["params"]
        ema_params = jax.tree.map(jnp.copy, params) if has_ema else None
        return TrainState(step=jnp.int32(0), params=params, opt_state=tx.init(params), ema_params=ema_params)

    return Step(
        init=init,
        update=make_update(model, tx, ema_decay=config.train.ema_decay, **config.objective),
        variables=evaluation_variables,
        schedule=optimizer.learning_rate_schedule(config.train),
        finite_metrics=("loss", "grad_norm"),
        show=lambda row: f"loss {row['loss']:.4g}  psnr {row['psnr']:.2f} dB",
        held_out_loss=functools.partial(
            held_out_loss, kl_weight=config.objective.kl_weight, per_value=config.objective.per_value
        ),
        loss_unit="nats per target value" if config.objective.per_value else "nats per image",
    )


def held_out_loss(
    values: Mapping[str, jax.Array], num_values: jax.Array, *, kl_weight: float = 1.0, per_value: bool = False
) -> float:
    """The loss of `make_update` over held-out images.

    Args:
      values: `reconstruction` and, of a model with a latent variable, `kl`, (N,) each, in nats per image.
      num_values: target values of each image, (N,).
      kl_weight: as of `make_update`.
      per_value: as of `make_update`.
    """
    reconstruction, kl = values["reconstruction"], values.get("kl")
    return float(_negative_bound(reconstruction, kl, num_values, kl_weight, per_value))


def _negative_bound(reconstruction, kl, num_values, kl_weight, per_value):
    bound = reconstruction if kl is None else objectives.elbo(reconstruction, kl, kl_weight=kl_weight)
    return -bound.sum() / jnp.maximum(num_values.sum(), 1) if per_value else -bound.mean()


def evaluation_variables(state: TrainState) -> dict[str, Any]:
    """The moving average of the parameters where there is one, else the parameters."""
    return {"params": state.params if state.ema_params is None else state.ema_params}


def make_update(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    num_samples: int = 1,
    target: str = "all",
    kl_weight: float = 1.0,
    per_value: bool = False,
    ema_decay: float = 0.0,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Returns `update(key, state, batches) -> (state, metrics)`, one optimiser step on the negative ELBO.

    The loss is the batch mean of -ELBO in nats per image, or its sum over the batch in nats per target value;
    the latent noise follows from `fold_in(key, state.step)`.

    Args:
      model: any neural process or VAE.
      tx: the optimiser.
      num_samples: K, latent samples per image.
      target: "all" or "unobserved" pixels.
      kl_weight: 1 gives the ELBO.
      per_value: whether the loss counts target values, not images.
      ema_decay: of the moving average that the state may hold.
    """

    def loss_fn(params, batch, sample_key):
        terms = model.apply(
            {"params": params},
            batch.image,
            batch.mask,
            train=True,
            num_samples=num_samples,
            target=target,
            rngs={"sample": sample_key},
        )
        num_values = objectives.target_pixels(batch.mask, target).sum(axis=(1, 2, 3)) * batch.image.shape[-1]
        return _negative_bound(terms.reconstruction, terms.kl, num_values, kl_weight, per_value), terms

    def update(key, state, batches):
        batch = jax.tree.map(lambda x: x[0], batches)
        sample_key = jax.random.fold_in(key, state.step)
        (loss, terms), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch, sample_key)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = optimizer.update_average(state.ema_params, params, ema_decay, state.step)
        logged = {"loss": loss, "grad_norm": optax.tree.norm(grads)} | list_means(terms, batch.image)
        state = TrainState(step=state.step + 1, params=params, opt_state=opt_state, ema_params=ema_params)
        return state, logged

    return update


def list_means(terms: Terms, image: jax.Array) -> dict[str, jax.Array]:
    """Batch means of the terms that a model has, and of its errors on float (B, H, W, C)."""
    optional = {"log_prob": terms.log_prob, "kl": terms.kl}
    means = {name: value.mean() for name, value in optional.items() if value is not None}
    means["mse"] = metrics.mse(terms.prediction, image).mean()
    means["psnr"] = metrics.psnr(terms.prediction, image).mean()
    return means
