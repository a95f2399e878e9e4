"""Convolutional encoder and decoder, and the mask-divided average pool."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.modules.convolution import Conv3x3


class ConvEncoder(nn.Module):
    """Feature maps of an image at full resolution: a 1x1 convolution, then residual 3x3 convolutions.

    The receptive field is `2 * depth + 1` pixels wide.

    Attributes:
      width: D, channels of the output.
      depth: number of 3x3 convolutions.
      dtype: of the computation; parameters stay float32.
    """

    width: int
    depth: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, F) to (B, H, W, D)."""
        chex.assert_rank(x, 4)
        x = nn.Dense(self.width, dtype=self.dtype)(x)
        for _ in range(self.depth):
            x = x + Conv3x3(self.width, dtype=self.dtype)(nn.gelu(x))
        return x


class DeconvDecoder(nn.Module):
    """Decodes concat(z broadcast over the grid, features, coordinates) by residual 3x3 deconvolutions.

    The first layer is pointwise, so it is applied to each part and summed: the same map as on the
    concatenation, without broadcasting z.

    Attributes:
      width: D, channels of the hidden maps.
      depth: number of transposed convolutions; with stride 1 those are convolutions.
      out_channels: channels of the output.
      dtype: of the computation; parameters and the output are float32.
    """

    width: int
    depth: int
    out_channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, features: jax.Array | None, coordinates: jax.Array) -> jax.Array:
        """Decodes S latent samples per image.

        Args:
          z: (S, B, Z).
          features: R_pred, (B, H, W, D), or None for a purely latent model.
          coordinates: float32 (H, W, 2).

        Returns:
          float32 (S, B, H, W, out_channels).
        """
        chex.assert_rank([z, coordinates], 3)
        s, b, _ = z.shape
        h, w, _ = coordinates.shape

        def first_layer(name, x):
            return nn.Dense(self.width, use_bias=name == "from_z", dtype=self.dtype, name=name)(x)

        shared = first_layer("from_coordinates", coordinates)[None]  # (1, H, W, D)
        if features is not None:
            chex.assert_rank(features, 4)
            shared = shared + first_layer("from_features", features)  # (B, H, W, D)
        # An image's samples lie side by side, so that all stay on the device that holds the image.
        from_z = jnp.swapaxes(first_layer("from_z", z), 0, 1)  # (B, S, D)
        x = from_z[:, :, None, None, :] + shared[:, None]  # (B, S, H, W, D)
        x = x.reshape(b * s, h, w, self.width)
        for _ in range(self.depth):
            x = x + Conv3x3(self.width, dtype=self.dtype)(nn.gelu(x))
        x = nn.Dense(self.out_channels, dtype=self.dtype)(nn.gelu(x))
        return jnp.swapaxes(x.astype(jnp.float32).reshape(b, s, h, w, self.out_channels), 0, 1)


def masked_mean_pool(features: jax.Array, mask: jax.Array, *, shares: jax.Array | None = None) -> jax.Array:
    """The division module, r = r' / m_bar: the sum over all features, per observed pixel.

    r' is the global average of `features`, m_bar that of `mask`, both in float32. It is the mean over
    observed pixels where `features` are 0 elsewhere; those of an encoder are not: it sees around each pixel.

    Args:
      features: (B, H, W, D).
      mask: bool (B, H, W, 1), True = observed.
      shares: float32 (H, W, D), what each value counts in r'; None = 1.

    Returns:
      float32 (B, D). An empty context divides by one pixel's share and stays finite.
    """
    chex.assert_rank([features, mask], 4)
    _, h, w, _ = features.shape
    if shares is not None:
        features = features * shares[None]
    pooled = jnp.mean(features, axis=(1, 2), dtype=jnp.float32)
    observed_share = jnp.mean(mask, axis=(1, 2), dtype=jnp.float32)
    return pooled / jnp.maximum(observed_share, 1 / (h * w))
