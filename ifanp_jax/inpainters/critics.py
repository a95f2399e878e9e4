"""Critics: what an image, or a crop of it, scores; and the crop around a hole.

No normalisation: by a batch's statistics one image's score would depend on others, and the gradient penalty
of WGAN-GP takes each image alone.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

LOCAL_WIDTHS = (1, 2, 4, 8)  # of each layer, in units of the first one's
GLOBAL_WIDTHS = (1, 2, 4, 4)
SLOPE = 0.2  # of the leaky ReLU


class ConvCritic(nn.Module):
    """Strided convolutions with leaky ReLU, flattened, and one number per image.

    The size of the image is fixed by the last layer.

    Attributes:
      widths: channels of each convolution.
      kernel_size: side of the convolutions' kernels.
      dtype: of the convolutions; parameters and the score are float32.
    """

    widths: tuple[int, ...]
    kernel_size: int = 5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Scores images.

        Args:
          x: float (B, H, W, C) in [-1, 1].
          train: no effect.

        Returns:
          float32 (B,).
        """
        del train
        chex.assert_rank(x, 4)
        glorot = nn.initializers.xavier_uniform()
        for width in self.widths:
            kernel = (self.kernel_size, self.kernel_size)
            x = nn.Conv(width, kernel, strides=2, kernel_init=glorot, dtype=self.dtype)(x)
            x = nn.leaky_relu(x, SLOPE)
        x = x.astype(jnp.float32).reshape(x.shape[0], -1)
        return nn.Dense(1, kernel_init=glorot)(x)[:, 0]


def deepfill_critics(side: int, *, width: int = 64, dtype: jnp.dtype = jnp.float32) -> dict[str, ConvCritic]:
    """DeepFill's critics: "global" scores whole images, "local" their crops of half the side.

    Args:
      side: of the images; up to 32 pixels, where little is left to stride over, one convolution fewer.
      width: channels of the first layer.
      dtype: of the convolutions.
    """
    count = 3 if side <= 32 else 4
    return {
        name: ConvCritic(tuple(width * factor for factor in factors[:count]), dtype=dtype)
        for name, factors in (("global", GLOBAL_WIDTHS), ("local", LOCAL_WIDTHS))
    }


def crop(x: jax.Array, start: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Cuts one window out of each image.

    Args:
      x: (B, H, W, C), an image or a mask.
      start: int32 (B, 2), top and left of the window.
      size: its height and width.

    Returns:
      (B, *size, C).
    """
    chex.assert_rank([x, start], [4, 2])

    def crop_one(x, start):
        return jax.lax.dynamic_slice(x, (start[0], start[1], 0), (*size, x.shape[-1]))

    return jax.vmap(crop_one)(x, start)
