"""Critics of Shift-Net, Context Encoder and GLCIC: how real an image, or each patch of it, looks (logits).

They normalise by batch or by image, so they are not for a gradient penalty; those with batch normalisation
see real and completed images in separate calls. All take images in the inside range [-1, 1].
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError
from ifanp_jax.inpainters.layers.shift_unet import InstanceNorm
from ifanp_jax.inpainters.layers.transposed_conv import NORMAL

FINAL_GRID = 4  # side of the grid at which the convolutions of stride 2 end


def num_halvings(size: int) -> int:
    """Convolutions of stride 2 from `size` pixels down to FINAL_GRID cells.

    Raises:
      UserError: when the side is not FINAL_GRID times a power of two, from 8 on.
    """
    halvings = (size // FINAL_GRID).bit_length() - 1
    if size != FINAL_GRID * 2**halvings or halvings < 1:
        raise UserError(
            f"the critic got a side of {size} pixels and takes powers of two from {2 * FINAL_GRID} on; crop "
            "or resize the pictures."
        )
    return halvings


class PatchCritic(nn.Module):
    """PatchGAN (Isola et al., 2017), Shift-Net's critic: 4x4 convolutions and a logit per patch.

    Strides 2, 2, 2, 1, 1; instance normalisation on all but the first and the last.

    Attributes:
      width: channels of the first layer; then 2, 4 and 8 times as many.
      dtype: of the computation; parameters and the output are float32.
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Judges every patch.

        Args:
          image: float (B, H, W, C), sides at least 32.
          train: no effect: normalisation is per image.

        Returns:
          float32 (B, H / 8 - 2, W / 8 - 2), logits.
        """
        del train
        chex.assert_rank(image, 4)
        conv = functools.partial(nn.Conv, kernel_size=(4, 4), padding=1, dtype=self.dtype, kernel_init=NORMAL)
        x = nn.leaky_relu(conv(self.width, strides=2)(image), 0.2)
        for factor, stride in ((2, 2), (4, 2), (8, 1)):
            x = conv(factor * self.width, strides=stride)(x)
            x = InstanceNorm()(x.astype(jnp.float32)).astype(self.dtype)
            x = nn.leaky_relu(x, 0.2)
        return conv(1)(x).astype(jnp.float32)[..., 0]


class RegionCritic(nn.Module):
    """Context Encoder's critic: 4x4 convolutions of stride 2 down to 4x4 cells, and one logit of them.

    Attributes:
      width: channels of the first layer; each further one has twice as many, up to `max_width`.
      max_width: the largest number of channels.
      dtype: of the computation; parameters and the output are float32.
    """

    width: int = 64
    max_width: int = 512
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Judges the predicted region, or the whole composite.

        Args:
          image: float (B, H, H, C), H a power of two from 8 on.
          train: whether to normalise by the batch's statistics, and to update those of "batch_stats".

        Returns:
          float32 (B,), logits.
        """
        chex.assert_rank(image, 4)
        b, h, w, _ = image.shape
        chex.assert_equal(h, w)
        x = image
        for layer in range(num_halvings(h)):
            width = min(self.width * 2**layer, self.max_width)
            x = nn.Conv(width, (4, 4), 2, padding=1, dtype=self.dtype, kernel_init=NORMAL)(x)
            if layer:
                x = _batch_norm(self.dtype, train)(x)
            x = nn.leaky_relu(x, 0.2)
        # A 4x4 convolution without padding on 4x4 cells is a product with all of them.
        return nn.Dense(1, dtype=self.dtype, kernel_init=NORMAL)(x.reshape(b, -1)).astype(jnp.float32)[:, 0]


class GlobalLocalCritic(nn.Module):
    """GLCIC's critic of the whole image and of a crop: two towers, one logit of both vectors.

    A tower: 5x5 convolutions of stride 2 with batch normalisation and ReLU down to 4x4 cells, and a vector;
    ReLU after it is our choice, without which two linear layers would follow each other.

    Attributes:
      width: channels of the first layer; each further one has twice as many, up to `max_width`.
      max_width: the largest number of channels.
      vector: length of each tower's vector.
      dtype: of the computation; parameters and the output are float32.
    """

    width: int = 64
    max_width: int = 512
    vector: int = 1024
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, crop: jax.Array, *, train: bool) -> jax.Array:
        """Judges an image and a crop together.

        Args:
          image: float (B, H, H, C), H a power of two from 8 on.
          crop: float (B, h, h, C), h as H; the original takes h = H / 2.
          train: whether to normalise by the batch's statistics, and to update those of "batch_stats".

        Returns:
          float32 (B,), logits.
        """
        chex.assert_rank([image, crop], 4)
        vectors = [self._tower("global", image, train), self._tower("local", crop, train)]
        x = nn.Dense(1, dtype=self.dtype, name="judge")(jnp.concatenate(vectors, axis=-1))
        return x.astype(jnp.float32)[:, 0]

    def _tower(self, name, x, train):
        b, h, w, _ = x.shape
        chex.assert_equal(h, w)
        for layer in range(num_halvings(h)):
            width = min(self.width * 2**layer, self.max_width)
            x = nn.Conv(width, (5, 5), 2, dtype=self.dtype, name=f"{name}_conv_{layer}")(x)
            x = nn.relu(_batch_norm(self.dtype, train, name=f"{name}_norm_{layer}")(x))
        return nn.relu(nn.Dense(self.vector, dtype=self.dtype, name=f"{name}_vector")(x.reshape(b, -1)))


def _batch_norm(dtype, train, **fields):
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, **fields)
