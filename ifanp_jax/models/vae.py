"""A convolutional variational autoencoder (Kingma and Welling, 2014), the paper's second baseline.

It is trained to reconstruct full images with the prior N(0, I) and never sees a context mask; at test time it
is given the image with unobserved pixels set to 0.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax import objectives
from ifanp_jax.errors import UserError
from ifanp_jax.models import heads
from ifanp_jax.models.outputs import Completion, Terms, check_inputs
from ifanp_jax.modules import grid


class VAE(nn.Module):
    """q(z | image) by a convolutional encoder, p(image | z) by a deconvolutional decoder; one grid only.

    Attributes:
      channels: C of the images.
      width: D, channels of every feature map.
      num_halvings: stride-2 convolutions of the encoder, and as many transposed ones of the decoder.
      latent_dim: Z.
      likelihood: "fixed" sigma, one "learned" sigma, or sigma "per_pixel" from the decoder.
      sigma: the fixed value, or the start of the learned one, in intensities [0, 1].
      sigma_floor: lower bound of a learned or per-pixel sigma.
      compute_dtype: "float32" or "bfloat16"; parameters, KL and log-likelihood are always float32.
    """

    step = "elbo"  # the way of training

    channels: int
    width: int = 32
    num_halvings: int = 2
    latent_dim: int = 64
    likelihood: str = "fixed"
    sigma: float = 0.1
    sigma_floor: float = 0.01
    compute_dtype: str = "float32"

    def __post_init__(self):
        """Checks the fields."""
        super().__post_init__()
        heads.check(self.likelihood)
        if self.num_halvings < 0:
            raise UserError(f"num_halvings is {self.num_halvings}; it must be at least 0.")

    def setup(self):
        """Builds the parts whose shape does not depend on the grid."""
        dtype = jnp.dtype(self.compute_dtype)
        first = nn.Conv(self.width, (3, 3), dtype=dtype)
        halvings = [nn.Conv(self.width, (3, 3), strides=2, dtype=dtype) for _ in range(self.num_halvings)]
        self.encoder = [first, *halvings]
        self.to_latent = nn.Dense(2 * self.latent_dim)
        self.decoder = [
            nn.ConvTranspose(self.width, (4, 4), strides=(2, 2), dtype=dtype)
            for _ in range(self.num_halvings)
        ]
        out_channels = heads.num_outputs(self.likelihood, self.channels)
        self.to_image = nn.Conv(out_channels, (3, 3), dtype=dtype)
        if self.likelihood == "learned":
            start = heads.initial_raw_sigma(self.sigma, self.sigma_floor)
            self.raw_sigma = self.param("raw_sigma", nn.initializers.constant(start), ())

    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool, num_samples: int = 1, target: str = "all"
    ) -> Terms:
        """Returns the terms of the ELBO; needs the rng stream `sample`.

        Args:
          image: float (B, H, W, C) in [0, 1], the full image.
          mask: bool (B, H, W, 1), True = observed.
          train: True is the autoencoder: z ~ q(z | image), KL to N(0, I). False is the test: z from the
            masked image, and as KL how far that is from the full image's.
          num_samples: K, latent samples per image.
          target: "all" or "unobserved" pixels in `log_prob`.
        """
        full = self.latent(image, jnp.ones_like(mask))
        if train:
            prior = (jnp.zeros_like(full[0]), jnp.ones_like(full[1]))
            z_distribution, kl_per_dim = full, objectives.gaussian_kl(*full, *prior)
        else:
            z_distribution = self.latent(image, mask)
            kl_per_dim = objectives.gaussian_kl(*full, *z_distribution)
        samples, sigma = self._sample(z_distribution, image.shape[1:3], train, num_samples)
        return heads.elbo_terms(image, mask, samples, sigma, kl_per_dim, target)

    def complete(self, image: jax.Array, mask: jax.Array, *, num_samples: int) -> Completion:
        """Reconstructs each masked image `num_samples` times; needs the rng stream `sample`.

        Args:
          image: float (B, H, W, C) in [0, 1]; unobserved pixels are never read.
          mask: bool (B, H, W, 1), True = observed.
          num_samples: S.
        """
        samples, sigma = self._sample(self.latent(image, mask), image.shape[1:3], False, num_samples)
        return Completion(samples=samples, scale=sigma)

    def latent(self, image: jax.Array, mask: jax.Array) -> heads.Gaussian:
        """Mean and standard deviation of q(z | image where observed), float32 (B, Z) each."""
        check_inputs(image, mask, self.channels)
        x = grid.hide_unobserved(image, mask)
        for layer in self.encoder:
            x = nn.gelu(layer(x))
        return heads.latent_gaussian(self.to_latent(x.reshape(x.shape[0], -1).astype(jnp.float32)))

    @nn.compact
    def _sample(self, z_distribution, size, train, num_samples):
        """Predicted mean and standard deviation, float32 (S, B, H, W, C) each."""
        z = heads.sample_latent(
            self.make_rng("sample"), *z_distribution, train=train, num_samples=num_samples
        )
        s, b, num_dims = z.shape
        h, w = size
        small = [-(-side // 2**self.num_halvings) for side in size]
        x = nn.Dense(
            small[0] * small[1] * self.width, dtype=jnp.dtype(self.compute_dtype), name="from_latent"
        )(jnp.swapaxes(z, 0, 1).reshape(b * s, num_dims))
        x = x.reshape(b * s, *small, self.width)
        for layer in self.decoder:
            x = layer(nn.gelu(x))
        out = self.to_image(nn.gelu(x))[:, :h, :w].astype(jnp.float32)  # odd sides were rounded up
        out = jnp.swapaxes(out.reshape(b, s, h, w, -1), 0, 1)
        raw_sigma = self.raw_sigma if self.likelihood == "learned" else None
        return heads.gaussian(out, self.channels, self.likelihood, self.sigma, self.sigma_floor, raw_sigma)
