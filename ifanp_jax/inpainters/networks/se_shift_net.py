"""Shift-Net with multi-scale channel attention: a U-Net with shift connection and squeeze-and-excitation.

It is `shift_net.ShiftNet` whose encoder layers down to a grid of 8x8 end in the block of
`modules.multi_scale_squeeze_excitation`. The text leaves open which layers have a block, the normalisation
and how the mask enters: here as said, instance normalisation, and the hole as an input channel. The critic is
`modules.patch_critics.RegionCritic` on the whole composite.

The published form takes 256 pixels; `shift_net.SMALL_FORMS` are those for 64 and 32 pixels.
"""

from ifanp_jax.inpainters.networks.shift_net import ShiftNet


class SEShiftNet(ShiftNet):
    """U-Net with a shift connection and multi-scale squeeze-and-excitation.

    Attributes:
      channels: C of the images.
      width: channels of the first layer; each further one has twice as many, up to `max_width`.
      max_width: the largest number of channels.
      shift_stride: pixels per cell of the shift connection's grid.
      hole_rule: which cells are hole: "any" of their pixels is, or the original's "share" of them.
      attention_grid: smallest grid side whose encoder layers end in multi-scale squeeze-and-excitation.
      se_reduction: bottleneck divisor of that block.
      compute_dtype: "float32" or "bfloat16"; parameters, normalisation and the output are always float32.
    """

    attention_grid: int = 8
