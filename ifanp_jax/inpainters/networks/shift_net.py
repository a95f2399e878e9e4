"""Shift-Net (Yan et al., "Shift-Net: image inpainting via deep feature rearrangement", 2018).

A U-Net down to one cell, whose decoder copies encoder features of the most similar known cell into the hole.
The published form takes 256 pixels: 54,933,891 parameters and 1,024 for the hole as a fourth channel.
`SMALL_FORMS` have half the width; on 32 pixels the connection lies on the grid of H / 4, where 64 cells are
left to copy from.

What differs from the paper: the hole is an input channel; any mask is taken; a cell counts as hole if any of
its pixels is (`hole_rule="share"` is the original's rule); the hole is 0 inside, not a mean colour.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError
from ifanp_jax.inpainters import base
from ifanp_jax.inpainters.layers import shift
from ifanp_jax.inpainters.layers.shift_unet import ShiftUNet
from ifanp_jax.models import fields
from ifanp_jax.models.outputs import Completion

# Fields of the small forms, by the side of the images.
SMALL_FORMS = {
    64: {"width": 32, "max_width": 256},
    32: {"width": 32, "max_width": 256, "shift_stride": 4},
}


class ShiftNet(nn.Module):
    """U-Net with a shift connection.

    Attributes:
      channels: C of the images.
      width: channels of the first layer; each further one has twice as many, up to `max_width`.
      max_width: the largest number of channels.
      shift_stride: pixels per cell of the shift connection's grid.
      hole_rule: which cells are hole: "any" of their pixels is, or the original's "share" of them.
      attention_grid: smallest grid side whose encoder layers end in multi-scale squeeze-and-excitation; 0 =
        none.
      se_reduction: bottleneck divisor of that block.
      compute_dtype: "float32" or "bfloat16"; parameters, normalisation and the output are always float32.
    """

    step = "adversarial"  # the way of training
    needs_known_pixels = True

    channels: int
    width: int = 64
    max_width: int = 512
    shift_stride: int = 8
    hole_rule: str = "any"
    attention_grid: int = 0
    se_reduction: int = 16
    compute_dtype: str = "float32"

    def __post_init__(self):
        """Refuses fields that no network has."""
        fields.check_choice(self, "compute_dtype", fields.COMPUTE_DTYPES)
        fields.check_choice(self, "hole_rule", shift.HOLE_RULES)
        for name in ("width", "max_width", "se_reduction"):
            fields.check_range(self, name, 1)
        if self.shift_stride < 2 or self.shift_stride & (self.shift_stride - 1):
            raise UserError(
                f"config.model.shift_stride is {self.shift_stride}; give a power of two from 2 on."
            )
        super().__post_init__()

    def setup(self):
        """Builds the network."""
        self.unet = ShiftUNet(
            self.channels,
            width=self.width,
            max_width=self.max_width,
            shift_stride=self.shift_stride,
            attention_grid=self.attention_grid,
            se_reduction=self.se_reduction,
            dtype=jnp.dtype(self.compute_dtype),
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
        """Completes each image, and gives what the guidance loss takes.

        Args:
          image: float (B, H, H, C) in [0, 1]; hidden pixels are read for `features["truth"]` alone.
          mask: bool (B, H, H, 1), True = observed.
          train: no effect: the network has neither dropout nor batch statistics.
          num_samples: no effect: there is no latent variable.
          target: no effect: there is no likelihood.

        Returns:
          `features`: "decoder" F and "truth" G of the whole image, float32 (B, h, h, N), without gradient to
          "truth"; "hole" float32 (B, h, h, 1), 1 where a cell is filled.
        """
        del train, num_samples, target
        base.check_call(self, image, mask)
        hole = shift.hole_cells(mask, self.shift_stride, rule=self.hole_rule)
        truth = base.with_hole(image, jnp.ones_like(mask))
        raw, decoder, target = self.unet(base.with_hole(image, mask), hole, truth=truth)
        features = {"decoder": decoder, "truth": target, "hole": hole.astype(jnp.float32)}
        return base.Inpainting(prediction=base.from_inside(raw), raw=raw, features=features)

    def complete(self, image: jax.Array, mask: jax.Array, *, num_samples: int) -> Completion:
        """The prediction `num_samples` times; hidden pixels are never read.

        Args:
          image: float (B, H, H, C) in [0, 1].
          mask: bool (B, H, H, 1), True = observed.
          num_samples: S.
        """
        base.check_call(self, image, mask)
        hole = shift.hole_cells(mask, self.shift_stride, rule=self.hole_rule)
        raw, *_ = self.unet(base.with_hole(image, mask), hole)
        return base.repeat_prediction(base.from_inside(raw), num_samples)

    def takes_size(self, size: tuple[int, int], trained_size: tuple[int, int]) -> str | None:
        """Why a picture cannot be taken, or None.

        Args:
          size: (H, W) of the picture, pixels.
          trained_size: (H, W) of the training; the network goes down to one cell, so it fits this size alone.
        """
        problem = self._find_problem(*size)
        if problem or tuple(size) == tuple(trained_size):
            return problem
        return (
            f"{type(self).__name__} was trained on {trained_size[0]}x{trained_size[1]} pixels and got "
            f"{size[0]}x{size[1]}; give pictures of that size."
        )

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Memory that one picture of `size` pixels takes beside the parameters, in bytes, roughly."""
        cells = (size[0] // self.shift_stride) * (size[1] // self.shift_stride)
        return 4 * (4 * self.width * size[0] * size[1] + 2 * cells**2)

    def _find_problem(self, height, width):
        is_power = height & (height - 1) == 0
        if height == width and is_power and height >= 2 * self.shift_stride:
            return None
        return (
            f"{type(self).__name__} got {height}x{width} pixels and takes squares with a power of two from "
            f"{2 * self.shift_stride} on as their side; crop or resize the pictures."
        )
