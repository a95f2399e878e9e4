"""Convolutional encoder and decoder, and the mask-divided average pool."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.modules.fast.conv3x3 import Conv3x3


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

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, F) to (B, H, W, D)."""
        x, last = self._before_last(x)
        return x if last is None else x + last(nn.gelu(x))

    def mean(self, x: jax.Array, shares: jax.Array) -> jax.Array:
        """The mean over all pixels of `shares` times the map.

        The last convolution is a sum. Where all channels have the same shares, its taps are averaged first,
        and no map is made of it.

        Args:
          x: (B, H, W, F).
          shares: float32 (H, W, 1 or D), what each value counts.

        Returns:
          float32 (B, D).
        """
        if self.depth == 0 or shares.shape[-1] > 1:
            return weighted_mean(self(x), shares)
        x, last = self._before_last(x)
        whole = jnp.mean(shares)  # what a bias counts
        taps = mean_taps(nn.gelu(x), shares[:, :, 0] / whole)
        return whole * (weighted_mean(x, shares / whole) + last(taps)[:, 1, 1])

    @nn.compact
    def _before_last(self, x: jax.Array) -> tuple[jax.Array, nn.Module | None]:
        chex.assert_rank(x, 4)
        x = nn.Dense(self.width, dtype=self.dtype)(x)
        convolutions = [Conv3x3(self.width, dtype=self.dtype) for _ in range(self.depth)]
        for convolution in convolutions[:-1]:
            x = x + convolution(nn.gelu(x))
        return x, convolutions[-1] if convolutions else None


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


def weighted_mean(features: jax.Array, shares: jax.Array) -> jax.Array:
    """The mean over all pixels of (B, H, W, D) times `shares`, float32 (H, W, 1 or D); float32 (B, D)."""
    return jnp.mean(features * shares[None], axis=(1, 2), dtype=jnp.float32)


def mean_taps(features: jax.Array, shares: jax.Array) -> jax.Array:
    """What a 3x3 convolution sees on average: t_ab = mean_i s_i x_(i + (a, b)), a and b from -1 to 1.

    The convolution of this 3x3 map has in its centre the mean over i of s_i times the convolution of x.

    Args:
      features: x, (B, H, W, D), zero outside.
      shares: s, float32 (H, W).

    Returns:
      float32 (B, 3, 3, D).
    """
    chex.assert_rank([features, shares], [4, 2])
    b, h, w, d = features.shape
    padded = jnp.pad(shares, 1)
    # Pixel j is seen in tap (a, b) by pixel j - (a, b).
    seen_by = [padded[1 - i : 1 - i + h, 1 - j : 1 - j + w] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    weights = (jnp.stack(seen_by) / (h * w)).reshape(9, h * w).astype(features.dtype)
    flat = features.reshape(b, h * w, d)
    taps = jnp.einsum("tn,bnd->btd", weights, flat, preferred_element_type=jnp.float32)
    return taps.reshape(b, 3, 3, d)


def divide_by_observed(mean: jax.Array, mask: jax.Array) -> jax.Array:
    """The division module, r = r' / m_bar: the sum over all features, per observed pixel.

    r' is the global average of the features, m_bar that of `mask`. It is the mean over observed pixels where
    the features are 0 elsewhere; those of an encoder are not: it sees around each pixel.

    Args:
      mean: r', float32 (B, D).
      mask: bool (B, H, W, 1), True = observed.

    Returns:
      float32 (B, D). An empty context divides by one pixel's share and stays finite.
    """
    chex.assert_shape([mean, mask], [(mean.shape[0], None), (mean.shape[0], None, None, 1)])
    chex.assert_type(mask, bool)
    observed_share = jnp.mean(mask, axis=(1, 2), dtype=jnp.float32)
    return mean / jnp.maximum(observed_share, 1 / (mask.shape[1] * mask.shape[2]))
