"""A convolution whose kernel's gradient stays in the cache of a CPU.

The gradient of a kernel is a sum over all pixels of a batch. XLA on a CPU makes one convolution of it, whose
window is a whole map of every image: too much for a core's cache, and slower the larger the batch. There the
sum is made block by block, of few images each. Elsewhere nothing changes.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.runtime import device_mesh

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
    differentiable = jax.custom_vjp(apply)
    differentiable.defvjp(
        lambda x, kernel: (apply(x, kernel), (x, kernel)), functools.partial(_backward, apply)
    )
    return differentiable(x, kernel)


def _backward(apply, saved, from_above):
    x, kernel = saved
    (to_x,) = jax.linear_transpose(lambda x: apply(x, kernel), x)(from_above)

    def find_gradient(x, from_above):
        return jax.linear_transpose(functools.partial(apply, x), kernel)(from_above)[0]

    def add_up_blocks(x, from_above):
        count = _count_images(from_above.shape)
        blocks = [
            find_gradient(x[first : first + count], from_above[first : first + count])
            for first in range(0, len(x), count)
        ]
        return sum(block.astype(jnp.float32) for block in blocks).astype(kernel.dtype)

    to_kernel = jax.lax.platform_dependent(
        x, from_above, cpu=functools.partial(device_mesh.add_up, add_up_blocks), default=find_gradient
    )
    return to_x, to_kernel


def _count_images(shape: tuple[int, int, int, int]) -> int:
    """Images of a block, of maps (B, H, W, D) in float32."""
    b, h, w, d = shape
    count = max(1, BLOCK_BYTES // (4 * h * w * d), -(-b // MAX_BLOCKS))
    return 2 ** (count.bit_length() - 1)  # XLA is slow with others


Conv3x3 = functools.partial(nn.Conv, kernel_size=(3, 3), conv_general_dilated=convolve)
