"""GLCIC (Iizuka et al., "Globally and locally consistent image completion", 2017).

A convolutional network on a quarter of the image's side with dilated convolutions, trained with a squared
error in the hole and a critic of the whole image and of a window around the hole
(`critics.GlobalLocalCritic`). The published form is for 256 pixels: 6,072,131 parameters. `SMALL_FORMS` have
half the width, and dilations that fit a grid of 16x16; on 32 pixels the second strided convolution and the
first transposed one keep the grid.

What differs from the paper: the hole is 0 inside, not a mean colour; the sigmoid is mapped to [-1, 1].
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.inpainters import base
from ifanp_jax.inpainters.layers.convolutions import TransposedConv, batch_norm
from ifanp_jax.models import fields

# Fields of the small forms, by the side of the images.
SMALL_FORMS = {
    64: {"width": 32, "dilations": (1, 2, 4, 8)},
    32: {"width": 32, "dilations": (1, 2, 4, 8), "num_strided": 1},
}


class GLCIC(base.Inpainter):
    """The completion network.

    Attributes:
      width: channels at full resolution; twice and four times as many below.
      num_strided: 2, or 1 for an image so small that a quarter of its side is too coarse.
      dilations: of the dilated convolutions.
    """

    is_finished_by_blending = True  # where OpenCV is installed, evaluations add that

    width: int = 64
    num_strided: int = 2
    dilations: tuple[int, ...] = (2, 4, 8, 16)

    def __post_init__(self):
        """Refuses fields that no network has."""
        fields.check_range(self, "width", 2)
        fields.check_range(self, "num_strided", 1, high=2)
        super().__post_init__()

    def setup(self):
        """Builds the network."""
        self.network = _Network(self.channels, self.width, self.num_strided, self.dilations, self.dtype)

    def inpaint(self, image: jax.Array, mask: jax.Array, *, train: bool) -> base.Inpainting:
        """One pass over the image and its hole."""
        raw = self.network(base.with_hole(image, mask), train=train)
        return base.Inpainting(prediction=base.from_inside(raw), raw=raw)

    @property
    def size_multiple(self) -> int:
        """Pixels of the coarsest cells."""
        return 2**self.num_strided

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Of three of the first maps."""
        return 4 * 3 * self.width * size[0] * size[1]


class _Network(nn.Module):
    channels: int
    width: int
    num_strided: int
    dilations: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train):
        w1, w2, w4 = self.width, 2 * self.width, 4 * self.width
        conv = functools.partial(nn.Conv, kernel_size=(3, 3), dtype=self.dtype)

        is_kept = self.num_strided == 1  # the grid, by a plain convolution of the same parameters
        layers = [
            conv(w1, kernel_size=(5, 5)),
            conv(w2, strides=2),
            conv(w2),
            conv(w4, strides=self.num_strided),
            *(conv(w4, kernel_dilation=dilation) for dilation in (1, 1, *self.dilations, 1, 1)),
            conv(w2, kernel_size=(4, 4)) if is_kept else TransposedConv(w2, dtype=self.dtype),
            conv(w2),
            TransposedConv(w1, dtype=self.dtype),
            conv(w1 // 2),
        ]
        for layer in layers:
            x = nn.relu(batch_norm(self.dtype, train=train)(layer(x)))
        return 2 * nn.sigmoid(conv(self.channels)(x).astype(jnp.float32)) - 1
