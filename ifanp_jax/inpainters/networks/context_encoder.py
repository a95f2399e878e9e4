"""Context Encoder (Pathak et al., "Context encoders: feature learning by inpainting", 2016).

4x4 convolutions of stride 2 down to 4x4 cells, all of which feed one vector, and the way back. Two forms:

- region "centre", published, for 128 pixels: the image in, its central half out; 71,118,691 parameters
  without batch normalisation. Any mask is taken, but nothing outside the central half is filled.
- region "image", the default, for any mask: the hole as one more input channel, one more enlarging layer,
  the whole image out.

`widths` has one entry per halving, so images have sides of 4 * 2^len(widths) pixels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError
from ifanp_jax.inpainters import base
from ifanp_jax.inpainters.layers.convolutions import NORMAL, Halving, TransposedConv, Unfold, batch_norm
from ifanp_jax.models import fields

REGIONS = ("image", "centre")
# Fields for other sizes than 128, by the side of the images; the small ones have half the width.
OTHER_FORMS = {
    256: {"widths": (64, 64, 64, 128, 256, 512)},
    64: {"widths": (32, 64, 128, 256), "bottleneck": 1000},
    32: {"widths": (32, 64, 128), "bottleneck": 1000},
}


class ContextEncoder(base.Inpainter):
    """Encoder and decoder around one vector.

    Attributes:
      widths: channels of the encoder's layers, each of which halves the side, down to 4x4 cells.
      bottleneck: length of the vector.
      region: what is put out, the whole "image" or its "centre".
    """

    widths: tuple[int, ...] = (64, 64, 128, 256, 512)
    bottleneck: int = 4000
    region: str = "image"

    def __post_init__(self):
        """Refuses fields that no network has."""
        fields.check_choice(self, "region", REGIONS)
        fields.check_range(self, "bottleneck", 1)
        if len(self.widths) < 2:
            raise UserError(f"config.model.widths is {self.widths}; give at least two, one for each halving.")
        super().__post_init__()

    def setup(self):
        """Builds the network."""
        up_widths = self.widths[-2::-1] if self.region == "image" else self.widths[-2:0:-1]
        self.network = _Network(self.channels, self.widths, up_widths, self.bottleneck, self.dtype)

    def inpaint(self, image: jax.Array, mask: jax.Array, *, train: bool) -> base.Inpainting:
        """With region "centre", `prediction` and `raw` hold the input outside it."""
        if self.region == "image":
            raw = self.network(base.with_hole(image, mask), train=train)
        else:
            inside = base.to_inside(image, mask).astype(jnp.float32)
            centre = slice(image.shape[1] // 4, 3 * image.shape[1] // 4)
            raw = inside.at[:, centre, centre].set(self.network(inside, train=train))
        return base.Inpainting(prediction=base.from_inside(raw), raw=raw)

    def takes_size(self, size: tuple[int, int], trained_size: tuple[int, int]) -> str | None:
        """Only the size that `widths` gives can be taken."""
        side = 4 * 2 ** len(self.widths)
        if tuple(size) == (side, side):
            return None
        return (
            f"ContextEncoder with {len(self.widths)} widths takes {side}x{side} pixels and got "
            f"{size[0]}x{size[1]}; resize the pictures, or give one width more for each doubling."
        )

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Of the first maps."""
        return 4 * 6 * self.widths[0] * size[0] * size[1]


class _Network(nn.Module):
    channels: int
    down_widths: tuple[int, ...]
    up_widths: tuple[int, ...]
    bottleneck: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train):
        def normalise(x):
            return batch_norm(self.dtype, train=train)(x)

        for layer, width in enumerate(self.down_widths):
            x = Halving(width, dtype=self.dtype)(x)
            x = nn.leaky_relu(normalise(x) if layer else x, 0.2)
        # A 4x4 convolution without padding on 4x4 cells is a product with all of them.
        x = nn.Dense(self.bottleneck, dtype=self.dtype, kernel_init=NORMAL)(x.reshape(x.shape[0], -1))
        x = nn.leaky_relu(normalise(x), 0.2)
        x = nn.relu(normalise(Unfold(self.down_widths[-1], dtype=self.dtype)(x)))
        for width in self.up_widths:
            x = nn.relu(normalise(TransposedConv(width, dtype=self.dtype)(x)))
        return jnp.tanh(TransposedConv(self.channels, dtype=self.dtype)(x).astype(jnp.float32))
