"""DeepFill v1 (Yu et al., 2018): a coarse network, then a refinement with contextual attention.

| part               | layers: k5 5x5, others 3x3; s2 stride 2; d dilated; up nearest x2 before it |
|--------------------|------------------------------------------------------------------------------|
| coarse             | k5 32, s2 64, 64, s2 128, 128, 128, 4 d 128, then as the decoder             |
| convolution branch | k5 32, s2 32, 64, s2 64, 128, 128, 4 d 128                                   |
| attention branch   | k5 32, s2 32, 64, s2 128, 128, 128 with ReLU, attention, 128, 128            |
| decoder            | (both branches), 128, 128, up 64, 64, up 32, 16, C                           |

ELU, no normalisation, zero padding, the last layer clipped to [-1, 1]. The refinement network sees the
composite of the coarse output. Without attention it is a second coarse network: the paper's baseline.

What strides and dilations suit depends on the image's side, the parameters do not:

| variant    | side     | strided layers | dilations   | rate of the attention |
|------------|----------|----------------|-------------|-----------------------|
| DeepFill32 | 32       | 1              | 1, 2, 4, 8  | 1                     |
| DeepFill64 | 64       | 2              | 1, 2, 4, 8  | 1                     |
| DeepFill   | 128, 256 | 2              | 2, 4, 8, 16 | 2                     |
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError
from ifanp_jax.inpainters import base
from ifanp_jax.inpainters.layers import contextual_attention, warping
from ifanp_jax.models import fields

MOVES = {"appearance_flow": warping.AppearanceFlow, "spatial_transformer": warping.SpatialTransformer}
ATTENTIONS = ("contextual", *MOVES, "none")
COARSE_WIDTHS = (1, 2, 2, 4, 4, 4)  # of the six layers before dilation, in units of `width`
# The same of both branches before dilation or attention: of the published code, and of the paper's appendix.
BRANCH_WIDTHS = {
    "code": ((1, 1, 2, 2, 4, 4), (1, 1, 2, 4, 4, 4)),
    "paper": (COARSE_WIDTHS, COARSE_WIDTHS),
}


class _Conv(nn.Module):
    """A convolution and its activation."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    activation: Callable = nn.elu
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        size, glorot = (self.kernel_size,) * 2, nn.initializers.xavier_uniform()
        conv = nn.Conv(
            self.features,
            size,
            self.stride,
            kernel_dilation=self.dilation,
            dtype=self.dtype,
            kernel_init=glorot,
        )
        return self.activation(conv(x))


class _TwoStages(base.Inpainter):
    """A coarse network and a refinement network.

    Attributes:
      width: channels of the first layer; all widths are multiples of half of it. 32 in the paper.
      num_strided: layers of stride 2, 1 or 2; so a cell of the features is 2 or 4 pixels wide.
      dilations: of the four dilated layers.
      attention: "contextual", "appearance_flow" or "spatial_transformer" in its place, or "none".
      rate: contextual attention matches patches on every r-th cell.
      attention_scale: inverse temperature of contextual attention.
      validity: which patches may be copied: "whole" ones, or by their known "fraction", for scattered pixels.
      branches: widths of the refinement's branches as in the published "code" or the "paper".
    """

    width: int = 32
    num_strided: int = 2
    dilations: tuple[int, ...] = (2, 4, 8, 16)
    attention: str = "contextual"
    rate: int = 2
    attention_scale: float = 10.0
    validity: str = "whole"
    branches: str = "code"

    def __post_init__(self):
        """Refuses fields that no network has."""
        fields.check_choice(self, "attention", ATTENTIONS)
        fields.check_choice(self, "branches", tuple(BRANCH_WIDTHS))
        fields.check_choice(self, "validity", contextual_attention.VALIDITIES)
        fields.check_range(self, "num_strided", 1, high=2)
        fields.check_range(self, "width", 2)
        fields.check_range(self, "rate", 1)
        if self.width % 2:
            raise UserError(f"config.model.width is {self.width}; give an even number.")
        if len(self.dilations) != 4 or min(self.dilations) < 1:
            raise UserError(f"config.model.dilations is {self.dilations}; give four numbers of at least 1.")
        super().__post_init__()

    def setup(self):
        """Builds the parts."""
        self.coarse_encoder = self._encoder(COARSE_WIDTHS)
        self.coarse_dilated = self._dilated()
        self.coarse_decoder = self._decoder()
        refine_widths, attention_widths = BRANCH_WIDTHS[self.branches]
        self.refine_encoder = self._encoder(COARSE_WIDTHS if self.attention == "none" else refine_widths)
        if self.attention != "none":
            self.attention_encoder = self._encoder(attention_widths, last=nn.relu)
            if self.attention != "contextual":  # which has no parameters
                self.attend = MOVES[self.attention](dtype=self.dtype)
            self.attention_decoder = [self._conv(4) for _ in range(2)]
        self.refine_dilated = self._dilated()
        self.refine_decoder = self._decoder()

    def inpaint(self, image: jax.Array, mask: jax.Array, *, train: bool) -> base.Inpainting:
        """Both stages."""
        inside = base.to_inside(image, mask)
        # The coarse network.
        x = add_mask_channels(inside, mask)
        x = _apply(self.coarse_dilated, _apply(self.coarse_encoder, x))
        coarse = self._decode(self.coarse_decoder, x)
        # The refinement network sees the composite, along one branch or two.
        x = add_mask_channels(jnp.where(mask, inside, coarse), mask)
        features = _apply(self.refine_dilated, _apply(self.refine_encoder, x))  # (B, h, w, 4 width)
        offsets = None
        if self.attention != "none":
            attended, offsets = self._attend(_apply(self.attention_encoder, x), mask)
            attended = _apply(self.attention_decoder, attended)
            features = jnp.concatenate([features, attended], axis=-1)
        raw = self._decode(self.refine_decoder, features)
        return base.Inpainting(prediction=base.from_inside(raw), raw=raw, coarse=coarse, attention=offsets)

    def _attend(self, features, mask):
        if self.attention != "contextual":
            return self.attend(features)
        known = contextual_attention.cell_fractions(mask, features.shape[1:3])
        return contextual_attention.attend(
            features, known, rate=self.rate, scale=self.attention_scale, validity=self.validity
        )

    @property
    def size_multiple(self) -> int:
        """Pixels of the coarsest cells."""
        return 2**self.num_strided * (self.rate if self.attention == "contextual" else 1)

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Of the first layers' maps, the largest ones, and of contextual attention."""
        h, w = size
        num_bytes = 4 * (4 * self.width) * h * w
        if self.attention == "contextual":
            cells = h // self.size_multiple, w // self.size_multiple
            num_bytes += 4 * 6 * contextual_attention.part_entries(*cells)
        return num_bytes

    def _conv(self, width_units, **options):
        return _Conv(int(width_units * self.width), dtype=self.dtype, **options)

    def _encoder(self, width_units, *, last=nn.elu):
        strides, sizes, activations = (1, 2, 1, self.num_strided, 1, 1), (5, 3, 3, 3, 3, 3), (nn.elu,) * 5
        layers = zip(width_units, strides, sizes, (*activations, last), strict=True)
        return [self._conv(u, stride=s, kernel_size=k, activation=a) for u, s, k, a in layers]

    def _dilated(self):
        return [self._conv(4, dilation=dilation) for dilation in self.dilations]

    def _decoder(self):
        layers = [self._conv(units) for units in (4, 4, 2, 2, 1, 0.5)]
        # The last one in float32, like what is compared with it.
        return [*layers, _Conv(self.channels, activation=lambda x: x)]

    def _decode(self, layers, x):
        """Applies a decoder; the map grows before the fifth layer and, after two strides, the third."""
        for index, layer in enumerate(layers):
            if (index == 2 and self.num_strided == 2) or index == 4:
                x = x.repeat(2, axis=1).repeat(2, axis=2)
            x = layer(x)
        return jnp.clip(x.astype(jnp.float32), -1, 1)


class DeepFill(_TwoStages):
    """For images of 128 and 256 pixels."""


class DeepFill64(_TwoStages):
    """For images of 64 pixels."""

    dilations: tuple[int, ...] = (1, 2, 4, 8)
    rate: int = 1


class DeepFill32(_TwoStages):
    """For images of 32 pixels."""

    num_strided: int = 1
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    rate: int = 1


def add_mask_channels(x: jax.Array, mask: jax.Array) -> jax.Array:
    """concat(x, ones, h); the ones tell a convolution with zero padding where the image ends."""
    hole = (~mask).astype(x.dtype)
    return jnp.concatenate([x, jnp.ones_like(hole), hole], axis=-1)


def _apply(layers, x):
    for layer in layers:
        x = layer(x)
    return x
