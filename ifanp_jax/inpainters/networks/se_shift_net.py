"""Shift-Net with multi-scale channel attention: a U-Net with shift connection and squeeze-and-excitation.

It is `ShiftNet` whose encoder layers down to a grid of 8x8 end in `MultiScaleSqueezeExcitation`. The text
leaves open which layers have a block, the normalisation and how the mask enters: here as said, instance
normalisation, and the hole as an input channel. The critic is `critics.RegionCritic` on the whole composite.
"""

from ifanp_jax.inpainters.networks.shift_net import ShiftNet


class SEShiftNet(ShiftNet):
    """Shift-Net with multi-scale squeeze-and-excitation."""

    attention_grid: int = 8
