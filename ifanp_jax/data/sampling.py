"""Training batches: which images and which contexts, a function of (key, step) alone.

So the position in the data is the step number, and a resumed run sees the batches it would have seen, on any
number of devices, whether the images live on the device or are streamed to it.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from ifanp_jax.data import augment

NUM_ROUNDS = 6  # of the Feistel network; with ideal round functions 4 already look random


@flax.struct.dataclass
class Batch:
    """Images with their contexts.

    Attributes:
      image: float32 (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.
    """

    image: jax.Array
    mask: jax.Array


def permute(key: jax.Array, index: jax.Array, size: int) -> jax.Array:
    """Evaluates a pseudo-random permutation of {0, ..., size - 1} at `index`, without building it.

    A Feistel network over the next power of four with cycle walking (Black and Rogaway, 2002): O(B) work
    where a shuffled table costs a sort of the whole epoch.

    Args:
      key: PRNG key; one key = one permutation.
      index: uint32 (B,) in [0, size).
      size: number of elements, at most 2^30.

    Returns:
      uint32 (B,) in [0, size); distinct for distinct indices.
    """
    half_bits = max(1, -(-(size - 1).bit_length() // 2))
    half_mask = jnp.uint32((1 << half_bits) - 1)
    round_keys = jax.random.bits(key, (NUM_ROUNDS,))

    def encrypt(x):
        left, right = x >> half_bits, x & half_mask
        for round_key in round_keys:
            left, right = right, left ^ (_mix(right ^ round_key) & half_mask)
        return (left << half_bits) | right

    def walk(x):
        return jnp.where(x >= size, encrypt(x), x)

    return jax.lax.while_loop(lambda x: jnp.any(x >= size), walk, encrypt(index.astype(jnp.uint32)))


def _mix(x: jax.Array) -> jax.Array:
    """The 32-bit finaliser of MurmurHash3: every input bit reaches every output bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def batch_indices(key: jax.Array, number: jax.Array, *, num_images: int, batch_size: int) -> jax.Array:
    """Image indices of one batch: every image once per epoch, each epoch in an order of its own.

    A batch may end one epoch and begin the next, so no image is dropped.

    Args:
      key: PRNG key of the run's data order.
      number: of the batch, a scalar integer; `number * batch_size` must stay under 2^32.
      num_images: images per epoch.
      batch_size: B.

    Returns:
      uint32 (B,).
    """
    position = jnp.asarray(number, jnp.uint32) * jnp.uint32(batch_size) + jnp.arange(
        batch_size, dtype=jnp.uint32
    )
    epoch, within = position // jnp.uint32(num_images), position % jnp.uint32(num_images)

    def index_in_epoch(epoch, within):
        return permute(jax.random.fold_in(key, epoch), within[None], num_images)[0]

    return jax.vmap(index_in_epoch)(epoch, within)


def to_float(images: jax.Array) -> jax.Array:
    """uint8 [0, 255] -> float32 [0, 1]."""
    return images.astype(jnp.float32) / 255


def make_sampler(
    mask_key: jax.Array,
    augmentation_key: jax.Array,
    sample_mask: Callable,
    *,
    crop: int = 0,
    flips: str = "none",
    scales: tuple[float, float] = augment.UNSCALED,
) -> Callable[[jax.Array, jax.Array], Batch]:
    """Returns `make_batch(images, number) -> Batch` from uint8 images (B, H, W, C) and the batch's number.

    Args:
      mask_key: PRNG key of the contexts.
      augmentation_key: PRNG key of crops and flips.
      sample_mask: from `masks.make_sampler`.
      crop: side of a random crop; 0 = the whole image.
      flips: of `augment.FLIPS`.
      scales: bounds of the scale of a random crop, as in `augment.crop_scaled`.
    """

    def make_batch(images, number):
        key = jax.random.fold_in(augmentation_key, number)
        images = augment.augment(key, images, crop=crop, flips=flips, scales=scales)
        mask = sample_mask(jax.random.fold_in(mask_key, number), images.shape[:3])
        return Batch(image=to_float(images), mask=mask)

    return make_batch
