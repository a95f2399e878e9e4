"""Shift-Net with multi-scale channel attention, a U-Net with shift connection and squeeze-and-excitation GAN.

It is `shift_net.ShiftNet` whose encoder layers down to a grid of 8x8 end in the block of
`modules.multi_scale_squeeze_excitation`. The text leaves open which layers have a block, the normalisation
and how the mask enters: here as said, instance normalisation, and the hole as an input channel. The critic is
`modules.patch_critics.RegionCritic` on the whole composite.

The published form takes 256 pixels; the small forms have half the width.
"""

import functools

from ifanp_jax.models.shift_net import ShiftNet

ATTENTION_GRID = 8

SEShiftNet = functools.partial(ShiftNet, attention_grid=ATTENTION_GRID)
SEShiftNet_64 = functools.partial(ShiftNet, attention_grid=ATTENTION_GRID, width=32, max_width=256)
SEShiftNet_32 = functools.partial(
    ShiftNet, attention_grid=ATTENTION_GRID, width=32, max_width=256, shift_stride=4
)
