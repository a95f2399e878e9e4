"""The U-Net of Shift-Net: 4x4 convolutions of stride 2 down to one cell and back, with a shift connection.

Encoder: leaky ReLU 0.2 before each convolution and instance normalisation after it; neither on the first,
and no normalisation on the last, whose single cell it would set to 0. Decoder: ReLU, 4x4 transposed
convolution of stride 2, instance normalisation; the encoder's map of the same grid is joined to it.
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.inpainters.layers import shift
from ifanp_jax.inpainters.layers.multi_scale_squeeze_excitation import MultiScaleSqueezeExcitation
from ifanp_jax.inpainters.layers.transposed_conv import NORMAL, TransposedConv

# Of each channel over its image; no parameters, so that an answer does not depend on the rest of the batch.
InstanceNorm = functools.partial(
    nn.InstanceNorm, epsilon=1e-5, use_bias=False, use_scale=False, use_fast_variance=False
)


def layer_widths(size: int, width: int, max_width: int) -> tuple[int, ...]:
    """Channels of the encoder's layers from `size` pixels down to one cell: doubled up to `max_width`."""
    return tuple(min(width * 2**layer, max_width) for layer in range(size.bit_length() - 1))


class ShiftEncoder(nn.Module):
    """The U-Net's contracting half.

    Attributes:
      widths: channels of each layer; the last has one cell.
      attention_grid: smallest grid side whose layers end in multi-scale squeeze-and-excitation; 0 = none do.
      se_reduction: bottleneck divisor of that block.
      dtype: of the computation; parameters stay float32.
    """

    widths: tuple[int, ...]
    attention_grid: int = 0
    se_reduction: int = 16
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Maps (B, H, H, F) to one map (B, H / 2^k, H / 2^k, N_k) per layer k = 1, 2, ..."""
        maps = []
        for layer, width in enumerate(self.widths):
            x = nn.leaky_relu(x, 0.2) if layer else x
            conv = nn.Conv(width, (4, 4), 2, padding=1, dtype=self.dtype, kernel_init=NORMAL)
            x = conv(x)
            if 0 < layer < len(self.widths) - 1:
                x = InstanceNorm()(x.astype(jnp.float32)).astype(self.dtype)
            if self.attention_grid and x.shape[1] >= self.attention_grid:
                x = MultiScaleSqueezeExcitation(self.se_reduction, dtype=self.dtype)(x)
            maps.append(x)
        return maps


class ShiftUNet(nn.Module):
    """The U-Net.

    Attributes:
      out_channels: C of the output.
      width: channels of the first layer; each further one has twice as many, up to `max_width`.
      max_width: the largest number of channels.
      shift_stride: pixels per cell of the shift connection's grid.
      attention_grid: smallest grid side whose encoder layers end in multi-scale squeeze-and-excitation; 0 =
        none.
      se_reduction: bottleneck divisor of that block.
      dtype: of the computation; parameters and the output are float32.
    """

    out_channels: int
    width: int = 64
    max_width: int = 512
    shift_stride: int = 8
    attention_grid: int = 0
    se_reduction: int = 16
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, hole: jax.Array, *, truth: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Fills the hole, and gives what the guidance loss compares.

        Args:
          x: float (B, H, H, F), H a power of two and at least twice `shift_stride`.
          hole: bool (B, H / shift_stride, H / shift_stride, 1), True = the cell is to be filled.
          truth: float (B, H, H, F), the input with nothing hidden, or None.

        Returns:
          float32 (B, H, H, out_channels) in [-1, 1]; F, the decoder's features on the shift connection's
          grid, float32 (B, h, h, N); and G of `truth` there, the same shape and without gradient, or None.
        """
        chex.assert_rank([x, hole], 4)
        widths = layer_widths(x.shape[1], self.width, self.max_width)
        encoder = ShiftEncoder(widths, self.attention_grid, self.se_reduction, self.dtype, name="encoder")
        maps = encoder(x)
        shift_layer = self.shift_stride.bit_length() - 2  # of the encoder, from 0
        target = None
        if truth is not None:
            target = jax.lax.stop_gradient(nn.relu(encoder(truth)[shift_layer])).astype(jnp.float32)
        y = maps[-1]
        for layer in reversed(range(len(widths) - 1)):  # of the encoder whose grid is reached
            y = TransposedConv(widths[layer], dtype=self.dtype, name=f"up_{layer}")(nn.relu(y))
            y = InstanceNorm()(y.astype(jnp.float32)).astype(self.dtype)
            joined = [nn.relu(y), nn.relu(maps[layer])]
            if layer == shift_layer:
                features = joined[0].astype(jnp.float32)
                joined.append(shift.shift(*joined, hole))
            y = jnp.concatenate(joined, axis=-1)
        y = TransposedConv(self.out_channels, dtype=self.dtype, name="out")(nn.relu(y))
        return jnp.tanh(y.astype(jnp.float32)), features, target
