"""A multi-scale residual network: few channels at full resolution, many below.

Every map is kept at zero outside the picture (`valid`), as a convolution's own zero padding is. So a picture
padded to a size that can be halved gives the answers that it gives alone, for any amount of padding.
"""

from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.modules.fast.conv3x3 import Conv3x3

ACTIVATIONS = {"gelu": nn.gelu, "silu": nn.silu, "leaky_relu": nn.leaky_relu}


def space_to_depth(x: jax.Array) -> jax.Array:
    """Moves 2x2 blocks into channels: (B, 2 H, 2 W, D) -> (B, H, W, 4 D), row, then column, then channel."""
    chex.assert_rank(x, 4)
    b, h, w, d = x.shape
    blocks = x.reshape(b, h // 2, 2, w // 2, 2, d)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * d)


def depth_to_space(x: jax.Array) -> jax.Array:
    """The inverse of `space_to_depth`: (B, H, W, 4 D) -> (B, 2 H, 2 W, D)."""
    chex.assert_rank(x, 4)
    b, h, w, d = x.shape
    blocks = x.reshape(b, h, w, 2, 2, d // 4)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, d // 4)


def halve_valid(valid: jax.Array | None) -> jax.Array | None:
    """Which cells of the next coarser map hold any part of the picture; (1, H, W, 1) -> (1, H/2, W/2, 1)."""
    return None if valid is None else jnp.max(space_to_depth(valid), axis=-1, keepdims=True)


def keep_valid(x: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Sets (B, H, W, D) to zero outside the picture; without padding there is nothing to do."""
    return x if valid is None else x * valid.astype(x.dtype)


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x)))), 3x3 each, the second kernel zero at the start: at first the identity.

    Attributes:
      activation: of ACTIVATIONS.
      dtype: of the computation; parameters stay float32.
    """

    activation: str = "gelu"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, valid: jax.Array | None = None) -> jax.Array:
        """Maps (B, H, W, D) to (B, H, W, D); `valid` (1 or B, H, W, 1) is 1 inside the picture, else 0."""
        chex.assert_rank(x, 4)
        act: Callable = ACTIVATIONS[self.activation]
        width = x.shape[-1]
        hidden = keep_valid(Conv3x3(width, dtype=self.dtype)(act(x)), valid)
        change = Conv3x3(width, dtype=self.dtype, kernel_init=nn.initializers.zeros)(act(hidden))
        return x + keep_valid(change, valid)


class UNet(nn.Module):
    """Residual blocks at each resolution, down to the coarsest and up again, the skips added.

    Down: space-to-depth and Dense; up: Dense and depth-to-space. On a CPU a strided transposed convolution is
    10 to 17 times slower than the latter.

    Attributes:
      widths: channels at full, half, quarter, ... resolution.
      down_blocks: residual blocks of each level on the way down, the coarsest one's last.
      up_blocks: residual blocks of each level but the coarsest on the way up.
      activation: of ACTIVATIONS.
      dtype: of the computation; parameters stay float32.
    """

    widths: tuple[int, ...] = (32, 96, 192)
    down_blocks: tuple[int, ...] = (1, 2, 2)
    up_blocks: tuple[int, ...] = (1, 2)
    activation: str = "gelu"
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        """Builds the levels."""
        levels = range(len(self.widths))

        def blocks(count):
            return [ResidualBlock(self.activation, self.dtype) for _ in range(count)]

        self.enter = [nn.Dense(self.widths[level], dtype=self.dtype) for level in levels]
        self.leave = [nn.Dense(4 * self.widths[level], dtype=self.dtype) for level in levels[:-1]]
        self.down_path = [blocks(self.down_blocks[level]) for level in levels]
        self.up_path = [blocks(self.up_blocks[level]) for level in levels[:-1]]

    def __call__(self, x: jax.Array, *, valid: jax.Array | None = None) -> jax.Array:
        """Maps features (B, H, W, F) to (B, H, W, widths[0]), `up` of `down`."""
        return self.up(self.down(x, valid=valid), valid=valid)

    def down(self, x: jax.Array, *, valid: jax.Array | None = None) -> list[jax.Array]:
        """The way down.

        Args:
          x: float (B, H, W, F); H and W multiples of 2^(levels - 1).
          valid: float (1 or B, H, W, 1), 1 inside the picture, 0 in its padding; None without padding. `x`
            must be zero where it is 0.

        Returns:
          The features of each level, (B, H / 2^level, W / 2^level, widths[level]).
        """
        chex.assert_rank(x, 4)
        chex.assert_is_divisible(x.shape[1], 2 ** (len(self.widths) - 1))
        chex.assert_is_divisible(x.shape[2], 2 ** (len(self.widths) - 1))
        features = []
        for level, (enter, blocks) in enumerate(zip(self.enter, self.down_path, strict=True)):
            if level > 0:
                x, valid = space_to_depth(x), halve_valid(valid)
            x = keep_valid(enter(x), valid)
            for block in blocks:
                x = block(x, valid=valid)
            features.append(x)
        return features

    def up(self, features: list[jax.Array], *, valid: jax.Array | None = None) -> jax.Array:
        """The way up, from the features of `down` (changed or not) and the same `valid`.

        Returns:
          (B, H, W, widths[0]), zero in the padding.
        """
        *skips, x = features
        valids = [valid]
        for _ in skips[1:]:
            valids.append(halve_valid(valids[-1]))
        for level in reversed(range(len(skips))):
            x = keep_valid(depth_to_space(self.leave[level](x)), valids[level]) + skips[level]
            for block in self.up_path[level]:
                x = block(x, valid=valids[level])
        return x
