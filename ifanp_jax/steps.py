"""Pure step functions; the caller compiles them."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ifanp_jax import metrics, objectives
from ifanp_jax.data.sampling import Batch
from ifanp_jax.state import TrainState


def make_elbo_step(
    key: jax.Array,
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    num_samples: int = 1,
    target: str = "all",
    kl_weight: float = 1.0,
    ema_decay: float = 0.0,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns `step(state, batch) -> (state, metrics)`, one optimiser step on the negative ELBO.

    The loss is the batch mean of -ELBO in nats per image; the latent noise follows from
    `fold_in(key, state.step)`.

    Args:
      key: PRNG key of the latent noise.
      model: any model of `ifanp_jax.models`.
      tx: the optimiser.
      num_samples: K, latent samples per image.
      target: "all" or "unobserved" pixels.
      kl_weight: 1 gives the ELBO.
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
        loss = -objectives.elbo(terms.log_prob, terms.kl, kl_weight=kl_weight).mean()
        return loss, terms

    def step(state, batch):
        sample_key = jax.random.fold_in(key, state.step)
        (loss, terms), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch, sample_key)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = state.ema_params
        if ema_params is not None:
            # The warm-up of the average: early on it must not hold the initial parameters.
            decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
            ema_params = optax.incremental_update(params, ema_params, 1 - decay)
        logged = {
            "loss": loss,
            "log_prob": terms.log_prob.mean(),
            "kl": terms.kl.mean(),
            "mse": metrics.mse(terms.prediction, batch.image).mean(),
            "psnr": metrics.psnr(terms.prediction, batch.image).mean(),
            "grad_norm": optax.tree.norm(grads),
        }
        return TrainState(
            step=state.step + 1, params=params, opt_state=opt_state, ema_params=ema_params
        ), logged

    return step
