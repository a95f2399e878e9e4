"""Blocks of a batch, for loops that take some of it at a time."""

import jax


def deal(x: jax.Array, at_once: int) -> jax.Array:
    """Cuts (B, ...) into blocks, (B / at_once, at_once, ...); `at_once` divides B.

    Each block takes rows from all parts of the batch, so that devices that share the batch share each block.
    """
    return x.reshape(at_once, len(x) // at_once, *x.shape[1:]).swapaxes(0, 1)


def gather(blocks: jax.Array) -> jax.Array:
    """The inverse of `deal`."""
    x = blocks.swapaxes(0, 1)
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
