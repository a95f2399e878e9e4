"""The adversarial step: a generator that completes, and critics that are updated before it.

`adversaries` says for each family which critics, losses and optimisers it has, and what `config.step` holds.
Where `config.train.init_from` names a model, the generator starts from it; critics are drawn in any case.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ifanp_jax import metrics
from ifanp_jax.inpainters import adversaries, base, holes, losses
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


@flax.struct.dataclass
class AdversarialState:
    """State of a training; data and noise follow from the seed and `step`.

    Attributes:
      step: int32 scalar, updates of the generator done.
      generator: the model that completes.
      critics: all critics; no parameters where the adversarial loss is "none".
      average: moving average of the generator's params and batch_stats, or None where none is kept.
    """

    step: jax.Array
    generator: Side
    critics: Side
    average: Any


def default_fields(model: nn.Module) -> dict[str, Any]:
    """The fields of `config.step` for a model, and their defaults."""
    return dict(adversaries.get(model).fields)


def make_step(config: ConfigDict, model: nn.Module) -> Step:
    """Builds the step.

    Args:
      config: the whole configuration; uses `step`, `train.num_steps` and `train.ema_decay`.
      model: an inpainter.

    Raises:
      UserError: when the model's family has no adversary, or a field cannot work.
    """
    adversary = adversaries.get(model)
    fields = dict(adversary.fields) | {name: config.step[name] for name in config.step if name != "name"}
    adversaries.check(adversary, fields)
    has_critics = fields["adversarial"] != "none"
    game = _Game(
        model=model,
        adversary=adversary,
        fields=fields,
        generator_tx=adversary.make_optimizer(fields["learning_rate"]),
        critic_tx=adversary.make_optimizer(fields["critic_learning_rate"]),
        ema_decay=config.train.ema_decay,
        num_steps=config.train.num_steps,
        num_critic_updates=fields["num_critic_updates"] if has_critics else 0,
    )
    return Step(
        init=game.init,
        update=game.update,
        variables=_evaluation_variables,
        schedule=optax.constant_schedule(fields["learning_rate"]),
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
    variables = state.average or _variables(state.generator)
    return {name: tree for name, tree in variables.items() if tree}


@dataclasses.dataclass(frozen=True)
class _Game:
    """What an update does; pure functions of the state."""

    model: nn.Module
    adversary: adversaries.Adversary
    fields: Mapping[str, Any]
    generator_tx: optax.GradientTransformation
    critic_tx: optax.GradientTransformation
    ema_decay: float
    num_steps: int
    num_critic_updates: int

    def init(self, key, image_shape, *, variables=None):
        """The state at step 0 for images (H, W, C); `variables` are the generator's, critics are drawn."""
        generator_key, critic_key = jax.random.split(key)
        variables = variables or parameters.init_variables(generator_key, self.model, image_shape)
        generator = _make_side(self.generator_tx, variables)
        image, start, by_name = jnp.zeros((1, *image_shape)), jnp.zeros((1, 2), jnp.int32), {}
        for index, (name, critic) in enumerate(self._list_critics(image).items()):
            one_key = jax.random.fold_in(critic_key, index)
            by_name[name] = critic.network.init(one_key, *critic.look(image, start), train=True)
        collections = {
            kind: {name: variables[kind] for name, variables in by_name.items() if kind in variables}
            for kind in ("params", "batch_stats")
        }
        return AdversarialState(
            step=jnp.int32(0),
            generator=generator,
            critics=_make_side(self.critic_tx, collections),
            average=jax.tree.map(jnp.copy, _variables(generator)) if self.ema_decay > 0 else None,
        )

    def update(self, key, state, batches):
        """Updates the critics, then the generator, each with a slice of `batches` and noise of its own."""
        key = jax.random.fold_in(key, state.step)
        slices = [
            jax.tree.map(lambda x, index=index: x[index], batches) for index in range(len(batches.image))
        ]
        # The critics, each time on another slice.
        critics, logged = state.critics, {}
        for index, batch in enumerate(slices[:-1]):
            one_key = jax.random.fold_in(key, index)
            critics, logged = self._update_critics(one_key, state.generator, critics, batch)
        trains_critics, trains_generator = self._phase(state.step)
        critics = _choose(trains_critics, critics, state.critics)
        # The generator, on the last slice. Before its critics are trained it does not heed them.
        one_key = jax.random.fold_in(key, len(slices) - 1)
        generator, more = self._update_generator(
            one_key, state.generator, critics, slices[-1], heeds_critics=trains_critics
        )
        generator = _choose(trains_generator, generator, state.generator)
        average = optimizer.update_average(state.average, _variables(generator), self.ema_decay, state.step)
        state = AdversarialState(step=state.step + 1, generator=generator, critics=critics, average=average)
        return state, more | logged

    def _phase(self, step):
        """Whether the critics are trained at a step, and whether the generator; True where always."""
        first, second = (self.fields.get(f"{side}_only_fraction", 0) for side in ("generator", "critic"))
        if not (self.num_critic_updates and (first or second)):
            return True, True
        begin, end = round(first * self.num_steps), round((first + second) * self.num_steps)
        return step >= begin, (step < begin) | (step >= end)

    def _list_critics(self, image):
        if not self.num_critic_updates:
            return {}
        return self.adversary.make_critics(self.model, self.fields, min(image.shape[1:3]))

    def _complete(self, key, generator, batch):
        """The answer, the composite that critics see, and the new statistics."""
        answer, changed = self.model.apply(
            _variables(generator),
            batch.image,
            batch.mask,
            train=True,
            mutable=["batch_stats"],
            rngs={"sample": key},
        )
        composite = base.composite(2 * batch.image - 1, batch.mask, answer.raw)
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
                    seen = [critic.look(x, start)[0] for x in (real, fake, batch.mask)]
                    one_key = jax.random.fold_in(penalty_key, index)
                    penalty = _penalty(one_key, critic, params[name], seen)
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


def _variables(side):
    return {"params": side.params, "batch_stats": side.batch_stats}


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


def _penalty(key, critic, params, seen):
    """The gradient penalty of what a critic sees of (real, fake, mask)."""

    def score(x):
        return critic.network.apply({"params": params}, x, train=True)

    return losses.gradient_penalty_loss(key, score, *seen).mean()
