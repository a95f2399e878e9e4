"""Blocks of a batch, for loops that take some of it at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.export


def are_faster(x: jax.Array) -> bool:
    """Whether a loop over blocks of a batch, (B, ...), is faster than one call: on a CPU.

    Not in a program for any B, which no block divides and which may run on another platform than this one;
    nor where an explicit mesh has cut B.
    """
    if jax.default_backend() != "cpu" or any(map(jax.export.is_symbolic_dim, x.shape)):
        return False
    spec = jax.typeof(x).sharding.spec
    return not spec or spec[0] is None


def split(x: jax.Array, at_once: int) -> jax.Array:
    """Cuts (B, ...) into blocks, (B / at_once, at_once, ...); `at_once` divides B.

    Each block takes rows from all parts of the batch, so that devices that split the batch split each block.
    """
    return x.reshape(at_once, len(x) // at_once, *x.shape[1:]).swapaxes(0, 1)


def join(blocks: jax.Array) -> jax.Array:
    """The inverse of `split`."""
    x = blocks.swapaxes(0, 1)
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def map_images(function: Callable[[Any], jax.Array], images: Any, at_once: int) -> jax.Array:
    """`function(images)`, of `at_once` images at a time.

    Args:
      function: of a tree of arrays; each image of its answer is made of its own.
      images: tree of (B, ...).
      at_once: divides B.
    """
    if at_once == jax.tree.leaves(images)[0].shape[0]:
        return function(images)
    cut = jax.tree.map(lambda x: split(x, at_once), images)
    # Backwards, so that a transpose, which goes the other way, adds up from the first block on.
    _, out = jax.lax.scan(lambda _, block: (None, function(block)), None, cut, reverse=True)
    return join(out)
