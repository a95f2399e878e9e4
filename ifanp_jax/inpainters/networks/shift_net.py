"""Shift-Net (Yan et al., "Shift-Net: image inpainting via deep feature rearrangement", 2018).

A U-Net down to one cell, whose decoder copies encoder features of the most similar known cell into the hole.
The published form takes 256 pixels: 54,933,891 parameters and 1,024 for the hole as a fourth channel.
`SMALL_FORMS` have half the width; on 32 pixels the connection lies on the grid of H / 4, where 64 cells are
left to copy from.

What differs from the paper: the hole is an input channel; any mask is taken; a cell counts as hole if any of
its pixels is (`hole_rule="share"` is the original's rule); the hole is 0 inside, not a mean colour.
"""

import itertools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError
from ifanp_jax.inpainters import base
from ifanp_jax.inpainters.layers import shift
from ifanp_jax.inpainters.layers.convolutions import Halving, InstanceNorm, TransposedConv
from ifanp_jax.models import fields

# Fields of the small forms, by the side of the images.
SMALL_FORMS = {
    64: {"width": 32, "max_width": 256},
    32: {"width": 32, "max_width": 256, "shift_stride": 4},
}
BRANCH_DEPTHS = (1, 2, 3)  # 3x3 convolutions of the branches of squeeze-and-excitation
BRANCH_DILATIONS = (1, 2)
BRANCH_DIVISOR = 4  # the branches have N / 4 channels


class ShiftNet(base.Inpainter):
    """U-Net with a shift connection, with `attention_grid` also with multi-scale squeeze-and-excitation.

    Attributes:
      width: channels of the first layer; each further one has twice as many, up to `max_width`.
      max_width: the largest number of channels.
      shift_stride: pixels per cell of the shift connection's grid.
      hole_rule: which cells are hole: "any" of their pixels is, or the original's "share" of them.
      attention_grid: smallest grid side whose encoder layers end in multi-scale squeeze-and-excitation; 0 =
        none.
      se_reduction: bottleneck divisor of that block.
    """

    width: int = 64
    max_width: int = 512
    shift_stride: int = 8
    hole_rule: str = "any"
    attention_grid: int = 0
    se_reduction: int = 16

    def __post_init__(self):
        """Refuses fields that no network has."""
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
        encoder = _Encoder(
            self.width, self.max_width, self.attention_grid, self.se_reduction, self.dtype, parent=None
        )
        self.unet = _UNet(encoder, self.channels, self.shift_stride, self.dtype)

    def inpaint(self, image: jax.Array, mask: jax.Array, *, train: bool) -> base.Inpainting:
        """In a training `features` hold the maps that the guidance loss takes, "decoder", "truth", "hole"."""
        hole = shift.hole_cells(mask, self.shift_stride, rule=self.hole_rule)
        truth = base.with_hole(image, jnp.ones_like(mask)) if train else None
        raw, decoder, target = self.unet(base.with_hole(image, mask), hole, truth=truth)
        features = {"decoder": decoder, "truth": target, "hole": hole.astype(jnp.float32)} if train else None
        return base.Inpainting(prediction=base.from_inside(raw), raw=raw, features=features)

    def takes_size(self, size: tuple[int, int], trained_size: tuple[int, int]) -> str | None:
        """The network goes down to one cell, so it fits the trained size alone."""
        (h, w), lowest = size, 2 * self.shift_stride
        if h != w or h & (h - 1) or h < lowest:
            return (
                f"{type(self).__name__} got {h}x{w} pixels and takes squares with a power of two from "
                f"{lowest} on as their side; crop or resize the pictures."
            )
        if tuple(size) != tuple(trained_size):
            return (
                f"{type(self).__name__} was trained on {trained_size[0]}x{trained_size[1]} pixels and got "
                f"{h}x{w}; give pictures of that size."
            )
        return None

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Of the first maps, and of the pairs of cells of the shift connection."""
        cells = (size[0] // self.shift_stride) * (size[1] // self.shift_stride)
        return 4 * (4 * self.width * size[0] * size[1] + 2 * cells**2)


class _Encoder(nn.Module):
    """4x4 convolutions of stride 2 down to one cell; gives the map of every layer, from the finest.

    Leaky ReLU 0.2 before each convolution and instance normalisation after it; neither on the first, and no
    normalisation on the last, whose single cell it would set to 0.
    """

    width: int
    max_width: int
    attention_grid: int
    se_reduction: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        maps, num_layers = [], x.shape[1].bit_length() - 1
        for layer in range(num_layers):
            x = nn.leaky_relu(x, 0.2) if layer else x
            x = Halving(min(self.width * 2**layer, self.max_width), dtype=self.dtype)(x)
            if 0 < layer < num_layers - 1:
                x = InstanceNorm()(x.astype(jnp.float32)).astype(self.dtype)
            if self.attention_grid and x.shape[1] >= self.attention_grid:
                x = MultiScaleSqueezeExcitation(self.se_reduction, dtype=self.dtype)(x)
            maps.append(x)
        return maps


class _UNet(nn.Module):
    """Encoder, and a decoder of ReLU, 4x4 transposed convolution of stride 2 and instance normalisation.

    The encoder's map of the same grid is joined to each of the decoder's.
    """

    encoder: _Encoder
    channels: int
    shift_stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, hole, *, truth):
        """Fills the hole, and gives what the guidance loss compares.

        Args:
          x: float (B, H, H, F), H a power of two and at least twice `shift_stride`.
          hole: bool (B, h, h, 1), cells of the shift connection's grid that are to be filled.
          truth: float (B, H, H, F), the input with nothing hidden, or None.

        Returns:
          float32 (B, H, H, channels) in [-1, 1]; F, the decoder's features on that grid, float32; and G of
          `truth` there, without gradient, or None.
        """
        *maps, y = self.encoder(x)
        shift_layer = self.shift_stride.bit_length() - 2  # of the encoder, from 0
        target = features = None
        if truth is not None:
            target = jax.lax.stop_gradient(nn.relu(self.encoder(truth)[shift_layer])).astype(jnp.float32)
        for layer, encoded in reversed([*enumerate(maps)]):  # whose grid is reached
            y = TransposedConv(encoded.shape[-1], dtype=self.dtype, name=f"up_{layer}")(nn.relu(y))
            y = InstanceNorm()(y.astype(jnp.float32)).astype(self.dtype)
            joined = [nn.relu(y), nn.relu(encoded)]
            if layer == shift_layer:
                features = joined[0].astype(jnp.float32)
                joined.append(shift.shift(*joined, hole))
            y = jnp.concatenate(joined, axis=-1)
        y = TransposedConv(self.channels, dtype=self.dtype, name="out")(nn.relu(y))
        return jnp.tanh(y.astype(jnp.float32)), features, target


class MultiScaleSqueezeExcitation(nn.Module):
    """A gate of the channels' means over convolutions of several reaches.

    On X (B, g, g, N), with e = ELU and three branches of one, two and three 3x3 convolutions (3x3, 5x5, 7x7
    seen), plain (R1..R3) and with dilation 2 (R4..R6):

      S = sigmoid(W2 e(W1 mean(X)))             (1), (2)
      R7 = S * project(concat(R1, ..., R6))     (3)
      X1 = reduce(concat(X, R7))                (4)

    Open in the text and chosen here: the branches have N / 4 channels, entered by one 1x1 convolution;
    `project` and `reduce` are 1x1 convolutions to N; ELU follows every convolution; dilated branches keep
    stride 1. Parameters: 43,924 for N = 64, 174,888 for 128, 697,936 for 256.

    Attributes:
      reduction: divisor of the gate's bottleneck.
      dtype: of the computation; parameters stay float32.
    """

    reduction: int = 16
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, h, w, N) to (B, h, w, N)."""
        chex.assert_rank(x, 4)
        n = x.shape[-1]
        width = max(1, n // BRANCH_DIVISOR)
        gate = jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32)
        gate = nn.elu(nn.Dense(max(1, n // self.reduction), dtype=self.dtype, name="squeeze")(gate))
        gate = nn.sigmoid(nn.Dense(n, dtype=self.dtype, name="excite")(gate))  # S, (B, 1, 1, N)
        entry = nn.elu(nn.Dense(width, dtype=self.dtype, name="enter")(x))
        forms = itertools.product(BRANCH_DILATIONS, BRANCH_DEPTHS)
        branches = [self._branch(entry, *form) for form in forms]
        joined = nn.elu(nn.Dense(n, dtype=self.dtype, name="project")(jnp.concatenate(branches, axis=-1)))
        both = jnp.concatenate([x.astype(self.dtype), gate * joined], axis=-1)  # (B, h, w, 2N)
        return nn.elu(nn.Dense(n, dtype=self.dtype, name="reduce")(both))

    def _branch(self, x, dilation, depth):
        for index in range(depth):
            name = f"dilation{dilation}_depth{depth}_{index}"
            conv = nn.Conv(x.shape[-1], (3, 3), kernel_dilation=dilation, dtype=self.dtype, name=name)
            x = nn.elu(conv(x))
        return x
