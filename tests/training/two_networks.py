"""A way of training with two networks: a generator, and a critic that is updated twice as often."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from ifanp_jax.models import parameters
from ifanp_jax.training.steps import Step

NUM_CRITIC_UPDATES = 2


class Critic(nn.Module):
    """One number per image."""

    @nn.compact
    def __call__(self, image):
        return nn.Dense(1)(nn.gelu(nn.Conv(4, (3, 3))(image)).mean(axis=(1, 2)))[:, 0]


@flax.struct.dataclass
class State:
    """Both networks with their optimisers."""

    step: jax.Array
    generator: Any
    critic: Any
    generator_opt: Any
    critic_opt: Any


def make_step(config, model):
    """Builds the step."""
    tx, critic = optax.adam(config.train.learning_rate), Critic()

    def init(key, image_shape, *, variables=None):
        keys = jax.random.split(key)
        generator = variables or parameters.init_variables(keys[0], model, image_shape)
        params = critic.init(keys[1], jnp.zeros((1, *image_shape)))
        return State(jnp.int32(0), generator, params, tx.init(generator), tx.init(params))

    def complete(generator, batch, key):
        terms = model.apply(generator, batch.image, batch.mask, train=True, rngs={"sample": key})
        return jnp.where(batch.mask, batch.image, terms.prediction), terms

    def critic_loss(params, batch, completed):
        return (critic.apply(params, completed) - critic.apply(params, batch.image)).mean()

    def generator_loss(generator, params, batch, key):
        completed, terms = complete(generator, batch, key)
        return -critic.apply(params, completed).mean() - terms.reconstruction.mean()

    def update(key, state, batches):
        key = jax.random.fold_in(key, state.step)
        params, critic_opt = state.critic, state.critic_opt
        for index in range(NUM_CRITIC_UPDATES):
            batch = jax.tree.map(lambda x, index=index: x[index], batches)
            completed, _ = complete(state.generator, batch, jax.random.fold_in(key, index))
            loss, grads = jax.value_and_grad(critic_loss)(params, batch, completed)
            changes, critic_opt = tx.update(grads, critic_opt, params)
            params = optax.apply_updates(params, changes)
        batch = jax.tree.map(lambda x: x[-1], batches)
        total, grads = jax.value_and_grad(generator_loss)(state.generator, params, batch, key)
        changes, generator_opt = tx.update(grads, state.generator_opt, state.generator)
        generator = optax.apply_updates(state.generator, changes)
        metrics = {"critic_loss": loss, "generator_loss": total}
        return State(state.step + 1, generator, params, generator_opt, critic_opt), metrics

    return Step(
        init=init,
        update=update,
        variables=lambda state: state.generator,
        schedule=optax.constant_schedule(config.train.learning_rate),
        finite_metrics=("critic_loss", "generator_loss"),
        show=lambda row: f"critic {row['critic_loss']:.2f}",
        num_batches=NUM_CRITIC_UPDATES + 1,
    )
