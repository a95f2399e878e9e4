"""The random streams of a run: the one place where the seed is split."""

from typing import NamedTuple

import jax


class Streams(NamedTuple):
    """PRNG keys, one for each thing that is drawn.

    Attributes:
      init: of the parameters.
      order: of the training images.
      masks: of their contexts, folded in with the number of the batch.
      augmentation: of their crops and flips, likewise.
      noise: of the step (latent samples and the like), folded in with the step.
    """

    init: jax.Array
    order: jax.Array
    masks: jax.Array
    augmentation: jax.Array
    noise: jax.Array


def make_streams(seed: int) -> Streams:
    """Splits the seed of a run.

    Args:
      seed: in [0, 2^32).
    """
    init, rest = jax.random.split(jax.random.key(seed))
    data, noise = jax.random.split(rest)
    order, masks = jax.random.split(data)
    augmentation = jax.random.fold_in(data, 2)  # a split in two is the first two of these
    return Streams(init=init, order=order, masks=masks, augmentation=augmentation, noise=noise)
