"""GLCIC (Iizuka et al., "Globally and locally consistent image completion", 2017).

A convolutional network on a quarter of the image's side with dilated convolutions, trained with a squared
error in the hole and a critic of the whole image and of a crop around the hole
(`modules.patch_critics.GlobalLocalCritic`). The published form is for 256 pixels: 6,072,131 parameters.
`SMALL_FORMS` have half the width, and dilations that fit a grid of 16x16; on 32 pixels the second strided
convolution and the first transposed one keep the grid.

What differs from the paper: the hole is 0 inside, not a mean colour; the sigmoid is mapped to [-1, 1].
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.inpainters import base
from ifanp_jax.inpainters.layers.transposed_conv import TransposedConv
from ifanp_jax.models import fields
from ifanp_jax.models.outputs import Completion

# Fields of the small forms, by the side of the images.
SMALL_FORMS = {
    64: {"width": 32, "dilations": (1, 2, 4, 8)},
    32: {"width": 32, "dilations": (1, 2, 4, 8), "num_strided": 1},
}


class GLCIC(nn.Module):
    """The completion network.

    Attributes:
      channels: C of the images.
      width: channels at full resolution; twice and four times as many below.
      num_strided: 2, or 1 for an image so small that a quarter of its side is too coarse.
      dilations: of the dilated convolutions.
      compute_dtype: "float32" or "bfloat16"; parameters and the output are always float32.
    """

    step = "adversarial"  # the way of training
    needs_known_pixels = True
    is_finished_by_blending = True  # where OpenCV is installed, evaluations add that

    channels: int
    width: int = 64
    num_strided: int = 2
    dilations: tuple[int, ...] = (2, 4, 8, 16)
    compute_dtype: str = "float32"

    def __post_init__(self):
        """Refuses fields that no network has."""
        fields.check_choice(self, "compute_dtype", fields.COMPUTE_DTYPES)
        fields.check_range(self, "width", 2)
        fields.check_range(self, "num_strided", 1, high=2)
        object.__setattr__(self, "dilations", tuple(self.dilations))  # a list, as from JSON, has no hash
        super().__post_init__()

    def setup(self):
        """Builds the network."""
        self.network = _Network(
            self.channels, self.width, self.num_strided, self.dilations, jnp.dtype(self.compute_dtype)
        )

    def __call__(
        self,
        image: jax.Array,
        mask: jax.Array,
        *,
        train: bool,
        num_samples: int = 1,
        target: str = "all",
    ) -> base.Inpainting:
        """Completes each image.

        Args:
          image: float (B, H, W, C) in [0, 1]; hidden pixels are never read. Sides are multiples of
            2^num_strided.
          mask: bool (B, H, W, 1), True = observed.
          train: whether to normalise by the batch's statistics, and to update those of "batch_stats".
          num_samples: no effect: there is no latent variable.
          target: no effect: there is no likelihood.
        """
        del num_samples, target
        base.check_call(self, image, mask)
        raw = self.network(base.with_hole(image, mask), train=train)
        return base.Inpainting(prediction=base.from_inside(raw), raw=raw)

    def complete(self, image: jax.Array, mask: jax.Array, *, num_samples: int) -> Completion:
        """The prediction `num_samples` times.

        Args:
          image: float (B, H, W, C) in [0, 1]; hidden pixels are never read.
          mask: bool (B, H, W, 1), True = observed.
          num_samples: S.
        """
        return base.repeat_prediction(self(image, mask, train=False).prediction, num_samples)

    def takes_size(self, size: tuple[int, int], trained_size: tuple[int, int]) -> str | None:
        """Why a picture cannot be taken, or None.

        Args:
          size: (H, W) of the picture, pixels.
          trained_size: (H, W) of the training; any other will do.
        """
        del trained_size
        stride = 2**self.num_strided
        if size[0] % stride == 0 and size[1] % stride == 0:
            return None
        return (
            f"GLCIC got {size[0]}x{size[1]} pixels and takes sides that are multiples of {stride}; crop or "
            "resize the pictures."
        )

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Memory that one picture of `size` pixels takes beside the parameters, in bytes, roughly."""
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

        def normalise(x):  # and ReLU
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype)
            return nn.relu(norm(x))

        second = self.num_strided  # stride of the second reduction, and of the first enlargement
        x = normalise(conv(w1, kernel_size=(5, 5))(x))
        x = normalise(conv(w2, strides=2)(x))
        x = normalise(conv(w2)(x))
        x = normalise(conv(w4, strides=second)(x))
        for dilation in (1, 1, *self.dilations, 1, 1):
            x = normalise(conv(w4, kernel_dilation=dilation)(x))
        is_kept = second == 1  # the same parameters without enlarging
        enlarge = conv(w2, kernel_size=(4, 4)) if is_kept else TransposedConv(w2, dtype=self.dtype)
        x = normalise(enlarge(x))
        x = normalise(conv(w2)(x))
        x = normalise(TransposedConv(w1, dtype=self.dtype)(x))
        x = normalise(conv(w1 // 2)(x))
        return 2 * nn.sigmoid(conv(self.channels)(x).astype(jnp.float32)) - 1
