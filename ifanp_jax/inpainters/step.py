"""The adversarial step: a generator that completes, and critics that are updated before it.

`adversaries` says for each family which critics, losses and optimisers it has, and what `config.step` holds.
Where `config.train.init_from` names a model, the generator starts from it; critics are drawn in any case.
"""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ifanp_jax import metrics
from ifanp_jax.inpainters import adversaries, holes, losses
from ifanp_jax.models import parameters
from ifanp_jax.training import optimizer
from ifanp_jax.training.steps import Step


@flax.struct.dataclass
class Side:
    """One side of the game; of the critics, trees by the critic's name.

    Attributes:
      params: parameters.
      batch_stats: running statistics of batch normalisation; empty where there is none.
      opt_state: the optimiser's state.
    """

    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """As the module takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}


@flax.struct.dataclass
class AdversarialState:
    """State of a training; data and noise follow from the seed and `step`.

    Attributes:
      step: int32 scalar, updates of the generator done.
      generator: the model that completes.
      critics: all critics; no parameters where the adversarial loss is "none".
      average: moving average of the generator's variables, or None where none is kept.
    """

    step: jax.Array
    generator: Side
    critics: Side
    average: Any


def default_fields(model: nn.Module) -> dict[str, Any]:
    """The fields of `config.step` for a model, and their defaults."""
    return dict(adversaries.get(model).fields)


def make_step(config: ConfigDict, model: nn.Module) -> Step:
    """Builds the step from `config.step`, `config.train.num_steps` and `config.train.ema_decay`.

    Raises:
      UserError: when the model's family has no adversary, or a field cannot work.
    """
    game = _Game(config, model)
    has_critics = game.num_critic_updates > 0
    return Step(
        init=game.init,
        update=game.update,
        variables=_evaluation_variables,
        schedule=optax.constant_schedule(game.fields["learning_rate"]),
        finite_metrics=("generator_loss", "grad_norm") + (("critic_loss",) if has_critics else ()),
        show=_show,
        num_batches=game.num_critic_updates + 1,
        remedy="lower config.step.learning_rate and config.step.critic_learning_rate",
    )


def _show(row):
    critic = f"critic {row['critic_loss']:.4g}  " if "critic_loss" in row else ""
    return f"generator {row['generator_loss']:.4g}  {critic}psnr {row['psnr']:.2f} dB"


def _evaluation_variables(state):
    """The moving average where there is one, else what was last trained; without empty collections."""
    return {name: tree for name, tree in (state.average or state.generator.variables).items() if tree}


class _Game:
    """What an update does; pure functions of the state."""

    def __init__(self, config, model):
        self.model, self.adversary = model, adversaries.get(model)
        self.ema_decay, self.num_steps = config.train.ema_decay, config.train.num_steps
        given = {name: value for name, value in config.step.items() if name != "name"}
        self.fields = self.adversary.fields | given
        adversaries.check(self.adversary, self.fields)
        self.generator_tx = self.adversary.make_optimizer(self.fields["learning_rate"])
        self.critic_tx = self.adversary.make_optimizer(self.fields["critic_learning_rate"])
        has_critics = self.fields["adversarial"] != "none"
        self.num_critic_updates = self.fields["num_critic_updates"] if has_critics else 0

    def init(self, key, image_shape, *, variables=None):
        """The state at step 0 for images (H, W, C); `variables` are the generator's, critics are drawn."""
        generator_key, critic_key = jax.random.split(key)
        variables = variables or parameters.init_variables(generator_key, self.model, image_shape)
        generator = _make_side(self.generator_tx, variables)
        image, start = jnp.zeros((1, *image_shape)), jnp.zeros((1, 2), jnp.int32)
        collections = {"params": {}, "batch_stats": {}}
        for index, (name, critic) in enumerate(self._list_critics(image).items()):
            one_key = jax.random.fold_in(critic_key, index)
            found = critic.network.init(one_key, *critic.look(image, start), train=True)
            for kind, tree in found.items():
                collections[kind][name] = tree
        return AdversarialState(
            step=jnp.int32(0),
            generator=generator,
            critics=_make_side(self.critic_tx, collections),
            average=jax.tree.map(jnp.copy, generator.variables) if self.ema_decay > 0 else None,
        )

    def update(self, key, state, batches):
        """Updates the critics, then the generator, each with a slice of `batches` and noise of its own."""
        key = jax.random.fold_in(key, state.step)
        num_slices = len(batches.image)
        keys = [jax.random.fold_in(key, index) for index in range(num_slices)]
        *others, last = (jax.tree.map(lambda x, i=i: x[i], batches) for i in range(num_slices))
        # The critics, each time on another slice.
        critics, logged = state.critics, {}
        for one_key, batch in zip(keys, others, strict=False):
            critics, logged = self._update_critics(one_key, state.generator, critics, batch)
        trains_critics, trains_generator = self._phase(state.step)
        critics = _choose(trains_critics, critics, state.critics)
        # The generator, on the last slice. Before its critics are trained it does not heed them.
        generator, more = self._update_generator(
            keys[-1], state.generator, critics, last, heeds_critics=trains_critics
        )
        generator = _choose(trains_generator, generator, state.generator)
        average = optimizer.update_average(state.average, generator.variables, self.ema_decay, state.step)
        state = AdversarialState(step=state.step + 1, generator=generator, critics=critics, average=average)
        return state, more | logged

    def _phase(self, step):
        """Whether the critics are trained at a step, and whether the generator; True where always."""
        first, second = (self.fields.get(f"{side}_only_fraction", 0) for side in ("generator", "critic"))
        if not (self.num_critic_updates and (first or second)):
            return True, True
        begin, end = (round(share * self.num_steps) for share in (first, first + second))
        return step >= begin, (step < begin) | (step >= end)

    def _list_critics(self, image):
        if not self.num_critic_updates:
            return {}
        return self.adversary.make_critics(self.model, self.fields, min(image.shape[1:3]))

    def _complete(self, key, generator, batch):
        """The answer, the composite that critics see, and the new statistics."""
        call = {"train": True, "mutable": ["batch_stats"], "rngs": {"sample": key}}
        answer, changed = self.model.apply(generator.variables, batch.image, batch.mask, **call)
        composite = jnp.where(batch.mask, 2 * batch.image - 1, answer.raw)
        return answer, composite, changed.get("batch_stats", {})

    def _update_critics(self, key, generator, critics, batch):
        """The critics after one update, and their losses; the generator is left as it is."""
        sample_key, window_key, penalty_key = jax.random.split(key, 3)
        _, fake, _ = self._complete(sample_key, generator, batch)
        fake, real = jax.lax.stop_gradient(fake), 2 * batch.image - 1
        start = real_start = holes.window_start(batch.mask)
        if self.adversary.is_real_elsewhere:
            real_start = holes.draw_window_start(window_key, real.shape[:3])

        def loss_fn(params):
            total, logged, batch_stats = 0.0, {}, {}
            for index, (name, critic) in enumerate(self._list_critics(real).items()):
                # Real and completed images are normalised apart.
                seen_real, seen_fake = critic.look(real, real_start), critic.look(fake, start)
                stats = critics.batch_stats.get(name)
                real_scores, stats = _score(critic, params[name], stats, seen_real)
                fake_scores, stats = _score(critic, params[name], stats, seen_fake)
                kind = self.fields["adversarial"]
                loss = losses.critic_loss(kind, real_scores.ravel(), fake_scores.ravel()).mean()
                if kind == "wgan_gp":
                    score = functools.partial(critic.network.apply, {"params": params[name]}, train=True)
                    seen = (critic.look(x, start)[0] for x in (real, fake, batch.mask))
                    one_key = jax.random.fold_in(penalty_key, index)
                    penalty = losses.gradient_penalty_loss(one_key, score, *seen).mean()
                    logged[f"{name}_penalty_loss"] = penalty
                    loss += penalty
                logged[f"{name}_critic_loss"] = loss
                total += self.adversary.critic_loss_weight * loss
                batch_stats |= {name: stats} if stats else {}
            return total, (logged, batch_stats)

        (loss, (logged, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(critics.params)
        return _apply(self.critic_tx, critics, grads, batch_stats), logged | {"critic_loss": loss}

    def _update_generator(self, key, generator, critics, batch, *, heeds_critics):
        """The generator after one update, and its losses; the critics are left as they are."""
        start = holes.window_start(batch.mask)

        def loss_fn(params):
            answer, fake, batch_stats = self._complete(key, generator.replace(params=params), batch)
            own = self.adversary.list_losses(self.fields, answer, batch)
            terms = {name: loss.mean() for name, loss in own.items()}
            for name, critic in self._list_critics(fake).items():
                stats = critics.batch_stats.get(name)
                scores, _ = _score(critic, critics.params[name], stats, critic.look(fake, start))
                loss = losses.generator_loss(self.fields["adversarial"], scores.ravel()).mean()
                weight = jnp.where(heeds_critics, self.fields["adversarial_weight"], 0.0)
                terms["adversarial"] = terms.get("adversarial", 0.0) + weight * loss
            return sum(terms.values()), (terms, answer.prediction, batch_stats)

        grads, (terms, prediction, batch_stats) = jax.grad(loss_fn, has_aux=True)(generator.params)
        logged = {f"{name}_loss": loss for name, loss in terms.items()}
        logged |= {
            "generator_loss": sum(terms.values()),
            "grad_norm": optax.tree.norm(grads),
            "mse": metrics.mse(prediction, batch.image).mean(),
            "psnr": metrics.psnr(prediction, batch.image).mean(),
            "psnr_unobserved": metrics.psnr_unobserved(prediction, batch.image, batch.mask).mean(),
        }
        return _apply(self.generator_tx, generator, grads, batch_stats), logged


def _make_side(tx, variables):
    params = variables["params"]
    return Side(params=params, batch_stats=variables.get("batch_stats", {}), opt_state=tx.init(params))


def _apply(tx, side, grads, batch_stats):
    updates, opt_state = tx.update(grads, side.opt_state, side.params)
    params = optax.apply_updates(side.params, updates)
    return Side(params=params, batch_stats=batch_stats, opt_state=opt_state)


def _choose(is_new, new, old):
    """One of two trees; `is_new` is a bool, traced or not."""
    return new if is_new is True else jax.tree.map(lambda a, b: jnp.where(is_new, a, b), new, old)


def _score(critic, params, batch_stats, seen):
    """Scores (B, ...) of what a critic sees, and the new statistics."""
    variables = {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})
    scores, changed = critic.network.apply(variables, *seen, train=True, mutable=["batch_stats"])
    return scores, changed.get("batch_stats", {})
