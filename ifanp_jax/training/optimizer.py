"""The optimiser of a training, from its configuration."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from ifanp_jax.runtime import sharing


def learning_rate_schedule(config) -> optax.Schedule:
    """Linear warm-up from 0, then a cosine to 0 at `num_steps`; `config` = the fields of `config.train`."""
    warmup = min(config.warmup_steps, config.num_steps // 2)
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, max(config.num_steps, warmup + 1)
    )


def make_optimizer(config) -> optax.GradientTransformation:
    """The optimiser that `config.optimizer` names, after clipping where `max_grad_norm` is positive.

    "adam" is AdamW where `weight_decay` is positive. "muon" is Muon (Jordan et al., 2024) for kernels, which
    weight decay then concerns alone, and Adam for the rest; `config` = the fields of `config.train`.
    """
    clip = optax.clip_by_global_norm(config.max_grad_norm) if config.max_grad_norm > 0 else optax.identity()
    schedule = learning_rate_schedule(config)
    if config.optimizer == "adam":
        return optax.chain(clip, optax.adamw(schedule, weight_decay=config.weight_decay))
    muon = optax.contrib.muon(
        schedule,
        weight_decay=config.weight_decay,
        adam_b2=0.99,
        adam_learning_rate=lambda step: config.adam_share * schedule(step),
        muon_weight_dimension_numbers=_stack_axes,
    )
    return optax.chain(clip, _on_stacks(muon))


def is_kernel(params: Any) -> Any:
    """For each parameter whether Muon takes it.

    Heads (layers whose name ends in "head") are left out too: Muon moves every direction alike, and a scale
    that reaches its floor in the first steps ruins them.

    Args:
      params: tree of arrays: kernels of convolutions (h, w, in, out) and of Dense layers (in, out) count.
    """

    def is_one(path, x):
        names = [str(getattr(part, "key", part)) for part in path]
        return x.ndim in (2, 4) and not any(name.endswith("head") for name in names)

    return jax.tree_util.tree_map_with_path(is_one, params)


def _on_stacks(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimiser whose kernels of one shape are one array, which the devices of a program share.

    Muon makes an orthogonal matrix of each kernel by products. Every device would do that for all of them;
    with the kernels of one shape in one array, each does it for some.

    Args:
      inner: sees {"kernels": {shape: (n, ...)}, "rest": [...]}; it must treat the n kernels one by one.
    """

    def init(params):
        return inner.init(_stack(params))

    def update(updates, state, params):
        stacked, state = inner.update(_stack(updates), state, _stack(params))
        return _unstack(stacked, updates), state

    return optax.GradientTransformation(init, update)


def _stack(tree):
    rest, groups = [], {}
    for x, stacks in zip(jax.tree.leaves(tree), jax.tree.leaves(is_kernel(tree)), strict=True):
        (groups.setdefault(_shape_name(x), []) if stacks else rest).append(x)
    # XLA would else cut the stack where it pleases, and send parts of kernels to and fro.
    whole = {name: sharing.replicate(jnp.stack(group)) for name, group in groups.items()}
    return {"kernels": {name: sharing.split(stack) for name, stack in whole.items()}, "rest": rest}


def _unstack(stacked, like):
    rest = iter(stacked["rest"])
    kernels = {name: iter(sharing.replicate(group)) for name, group in stacked["kernels"].items()}
    return jax.tree.map(
        lambda x, stacks: next(kernels[_shape_name(x)]) if stacks else next(rest), like, is_kernel(like)
    )


def _shape_name(x):
    return "x".join(map(str, x.shape))


def _stack_axes(tree):
    """The axes of the matrices in stacks of kernels, (n, ..., in, out); None for the rest."""
    matrix = {
        name: optax.contrib.MuonDimensionNumbers(tuple(range(1, x.ndim - 1)), x.ndim - 1)
        for name, x in tree["kernels"].items()
    }
    return {"kernels": matrix, "rest": [None] * len(tree["rest"])}


def update_average(average: Any, params: Any, decay: float, step: jax.Array) -> Any:
    """Moves an average of the parameters on: decay * average + (1 - decay) * params.

    It stays None where none is kept. The decay warms up with `step`, the optimiser steps done before.
    """
    if average is None:
        return None
    # The warm-up of the average: early on it must not hold the initial parameters.
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, average, 1 - decay)
