"""Critics: how real an image, or each patch of it, looks. All take images in the inside range [-1, 1].

DeepFill's do not normalise: by a batch's statistics one image's score would depend on others, and the
gradient penalty of WGAN-GP takes each image alone. The others normalise by batch or by image, so they are not
for a gradient penalty; those with batch normalisation see real and completed images in separate calls.
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError
from ifanp_jax.inpainters.layers.convolutions import NORMAL, Halving, InstanceNorm, batch_norm

SLOPE = 0.2  # of the leaky ReLU
FINAL_GRID = 4  # side of the grid at which the convolutions of stride 2 end


class ConvCritic(nn.Module):
    """DeepFill's critic: 5x5 convolutions of stride 2 with leaky ReLU, flattened, and one number per image.

    The size of the image is fixed by the last layer.

    Attributes:
      widths: channels of each convolution.
      dtype: of the layers; parameters and scores are float32.
    """

    widths: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images (B, H, W, C) to scores, float32 (B,); a training is no different."""
        chex.assert_rank(x, 4)
        glorot = nn.initializers.xavier_uniform()
        for width in self.widths:
            x = nn.Conv(width, (5, 5), strides=2, kernel_init=glorot, dtype=self.dtype)(x)
            x = nn.leaky_relu(x, SLOPE)
        x = x.astype(jnp.float32).reshape(x.shape[0], -1)
        return nn.Dense(1, kernel_init=glorot)(x)[:, 0]


class PatchCritic(nn.Module):
    """PatchGAN (Isola et al., 2017), Shift-Net's critic: 4x4 convolutions and a logit per patch.

    Strides 2, 2, 2, 1, 1; instance normalisation on all but the first and the last.

    Attributes:
      width: channels of the first layer; then 2, 4 and 8 times as many.
      dtype: of the layers; parameters and scores are float32.
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images with sides from 32 on to logits, float32 (B, H / 8 - 2, W / 8 - 2)."""
        chex.assert_rank(x, 4)
        conv = functools.partial(Halving, dtype=self.dtype)
        x = nn.leaky_relu(conv(self.width)(x), SLOPE)
        for factor, stride in ((2, 2), (4, 2), (8, 1)):
            x = conv(factor * self.width, strides=stride)(x)
            x = InstanceNorm()(x.astype(jnp.float32)).astype(self.dtype)
            x = nn.leaky_relu(x, SLOPE)
        return conv(1, strides=1)(x).astype(jnp.float32)[..., 0]


class RegionCritic(nn.Module):
    """Context Encoder's critic: 4x4 convolutions of stride 2 down to 4x4 cells, and one logit of them.

    Attributes:
      width: channels of the first layer; each further one has twice as many, up to 8 times.
      dtype: of the layers; parameters and scores are float32.
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps square images, whose side is a power of two from 8 on, to logits, float32 (B,)."""
        for layer in range(count_halvings(x)):
            width = min(2**layer, 8) * self.width
            x = Halving(width, dtype=self.dtype)(x)
            if layer:
                x = batch_norm(self.dtype, train=train)(x)
            x = nn.leaky_relu(x, SLOPE)
        # A 4x4 convolution without padding on 4x4 cells is a product with all of them.
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(1, dtype=self.dtype, kernel_init=NORMAL)(x).astype(jnp.float32)[:, 0]


class GlobalLocalCritic(nn.Module):
    """GLCIC's critic of the whole image and of a window: two towers, one logit of both vectors.

    A tower: 5x5 convolutions of stride 2 with batch normalisation and ReLU down to 4x4 cells, and a vector;
    ReLU after it is our choice, without which two linear layers would follow each other.

    Attributes:
      width: channels of the first layer; each further one has twice as many, up to 8 times; the vector has 16
        times as many.
      dtype: of the layers; parameters and scores are float32.
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, window: jax.Array, *, train: bool) -> jax.Array:
        """Maps squares whose sides are powers of two from 8 on to logits, float32 (B,)."""
        vectors = [self._tower("global", image, train), self._tower("local", window, train)]
        x = nn.Dense(1, dtype=self.dtype, name="judge")(jnp.concatenate(vectors, axis=-1))
        return x.astype(jnp.float32)[:, 0]

    def _tower(self, name, x, train):
        for layer in range(count_halvings(x)):
            width = min(2**layer, 8) * self.width
            x = nn.Conv(width, (5, 5), 2, dtype=self.dtype, name=f"{name}_conv_{layer}")(x)
            x = nn.relu(batch_norm(self.dtype, train=train, name=f"{name}_norm_{layer}")(x))
        x = x.reshape(x.shape[0], -1)
        return nn.relu(nn.Dense(16 * self.width, dtype=self.dtype, name=f"{name}_vector")(x))


def count_halvings(image: jax.Array) -> int:
    """Convolutions of stride 2 from square images (B, H, H, C) down to FINAL_GRID cells.

    Raises:
      UserError: when the side is no power of two from 8 on.
    """
    chex.assert_rank(image, 4)
    _, size, w, _ = image.shape
    chex.assert_equal(size, w)
    halvings = (size // FINAL_GRID).bit_length() - 1
    if size != FINAL_GRID * 2**halvings or halvings < 1:
        raise UserError(
            f"the critic got a side of {size} pixels and takes powers of two from {2 * FINAL_GRID} on; crop "
            "or resize the pictures."
        )
    return halvings
