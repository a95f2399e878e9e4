"""An optimiser for stacks of kernels of one shape, which the devices of a program share.

Muon makes an orthogonal matrix of each kernel by products. Every device would do that for all of them; with
the kernels of one shape in one array, each does it for some.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ifanp_jax.runtime import device_mesh


def on_stacks(
    inner: optax.GradientTransformation, is_kernel: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """`inner` for a tree in which the kernels of one shape are one array with a leading axis.

    Args:
      inner: sees {"kernels": {shape: (n, ...)}, "rest": [...]}; it must treat the n kernels one by one.
      is_kernel: params -> the same tree of bool.

    Returns:
      The transformation for the tree as it is.
    """

    def init(params):
        return inner.init(_stack(params, is_kernel(params)))

    def update(updates, state, params):
        which = is_kernel(params)
        stacked, state = inner.update(_stack(updates, which), state, _stack(params, which))
        return _unstack(stacked, updates, which), state

    return optax.GradientTransformation(init, update)


def _stack(tree, is_kernel):
    rest, groups = [], {}
    for x, stacks in zip(jax.tree.leaves(tree), jax.tree.leaves(is_kernel), strict=True):
        (groups.setdefault(_name(x), []) if stacks else rest).append(x)
    # XLA would else cut the stack where it pleases, and send parts of kernels to and fro.
    whole = {name: device_mesh.replicate(jnp.stack(group)) for name, group in groups.items()}
    return {"kernels": {name: device_mesh.share(stack) for name, stack in whole.items()}, "rest": rest}


def _unstack(stacked, like, is_kernel):
    rest = iter(stacked["rest"])
    kernels = {name: iter(device_mesh.replicate(group)) for name, group in stacked["kernels"].items()}
    leaves, structure = jax.tree.flatten(like)
    which = jax.tree.leaves(is_kernel)
    return structure.unflatten(
        next(kernels[_name(x)]) if stacks else next(rest) for x, stacks in zip(leaves, which, strict=True)
    )


def _name(x):
    return "x".join(map(str, x.shape))
