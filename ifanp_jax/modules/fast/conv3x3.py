"""A convolution whose kernel's gradient stays in the cache of a CPU.

The gradient of a kernel is a sum over all pixels of a batch. XLA on a CPU makes one convolution of it, whose
window is a whole map of every image: too much for a core's cache, and slower the larger the batch. There the
sum is made block by block, of few images each. Elsewhere nothing changes.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.modules.fast import blocks
from ifanp_jax.runtime import sharing

BLOCK_BYTES = 2**19  # of a block's maps: half of the second cache of a core
MAX_BLOCKS = 8  # each is a convolution of its own in the program


def convolve(x: jax.Array, kernel: jax.Array, window_strides, padding, **options) -> jax.Array:
    """`jax.lax.conv_general_dilated`, with a gradient in blocks on a CPU.

    Args:
      x: float (B, H, W, F).
      kernel: float (height, width, F, D).
      window_strides: as there, like the rest.
      padding: as there.
      **options: as there.

    Returns:
      (B, H', W', D), of the dtype of `x`.
    """
    apply = functools.partial(
        jax.lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options
    )
    if not blocks.are_faster(x):
        return apply(x, kernel)

    def change_by_kernel(change, out, x, kernel):
        del kernel
        in_blocks = functools.partial(_apply_in_blocks, apply, out.shape[1:])
        return sharing.by_device(in_blocks, change, x)

    differentiable = jax.custom_jvp(apply)
    differentiable.defjvps(lambda change, out, x, kernel: apply(change, kernel), change_by_kernel)
    return differentiable(x, kernel)


def _apply_in_blocks(apply, out_shape, kernel, x):
    """`apply(x, kernel)` by blocks of images. Its transpose in `kernel` is a sum over blocks, in float32."""
    b, count = x.shape[0], count_images((x.shape[0], *out_shape))
    exact = kernel.astype(jnp.float32)
    # From the last block on, since a transpose goes the other way and is to add up from the first.
    firsts = reversed(range(0, b, count))
    out = [apply(x[first : first + count], exact.astype(kernel.dtype)) for first in firsts]
    return jnp.concatenate(out[::-1])


def count_images(shape: tuple[int, int, int, int]) -> int:
    """Images of a block, of maps (B, H, W, D) in float32."""
    b, h, w, d = shape
    count = max(1, BLOCK_BYTES // (4 * h * w * d), -(-b // MAX_BLOCKS))
    return 2 ** (count.bit_length() - 1)  # XLA is slow with others


Conv3x3 = functools.partial(nn.Conv, kernel_size=(3, 3), conv_general_dilated=convolve)
