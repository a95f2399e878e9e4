"""Convolutional variational autoencoders (Kingma and Welling, 2014), the paper's second baseline.

| name      | q(z) in training | q(z) at test time  | what it is                                        |
|-----------|------------------|--------------------|---------------------------------------------------|
| VAE       | of the image     | of the masked one  | an autoencoder of whole images, as in the paper   |
| MaskedVAE | of the masked one| of the masked one  | the fair comparison: trained as it is tested      |

Both reconstruct the whole image with the prior N(0, I). A masked image has its unobserved pixels set to 0;
MaskedVAE sees the mask beside it. With target="unobserved" the likelihood of both counts only the pixels that
the mask hides.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax import objectives
from ifanp_jax.models import fields, heads
from ifanp_jax.models.base import Completion, Terms
from ifanp_jax.models.neural_process import NeuralProcess
from ifanp_jax.modules import grid


class ConvVAE(NeuralProcess):
    """q(z | image) by a convolutional encoder, p(image | z) by a deconvolutional decoder; one grid only.

    Attributes:
      width: D, channels of every feature map.
      num_halvings: stride-2 convolutions of the encoder, and as many transposed ones of the decoder.
      latent_dim: Z.
    """

    trains_masked: ClassVar[bool]  # whether a training's encoder gets the masked image, and always the mask

    width: int = 32
    num_halvings: int = 2
    latent_dim: int = 64

    def __post_init__(self):
        """Checks the fields."""
        for name in ("width", "latent_dim"):
            fields.check_range(self, name, 1)
        fields.check_range(self, "num_halvings", 0)
        super().__post_init__()

    def setup(self):
        """Builds the parts whose shape does not depend on the grid."""
        super().setup()
        dtype = self.dtype
        first = nn.Conv(self.width, (3, 3), dtype=dtype)
        halvings = [nn.Conv(self.width, (3, 3), strides=2, dtype=dtype) for _ in range(self.num_halvings)]
        self.encoder = [first, *halvings]
        self.to_latent = nn.Dense(2 * self.latent_dim)
        self.decoder = [
            nn.ConvTranspose(self.width, (4, 4), strides=(2, 2), dtype=dtype)
            for _ in range(self.num_halvings)
        ]
        self.to_image = nn.Conv(self.head.num_outputs, (3, 3), dtype=dtype)

    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool, num_samples: int = 1, target: str = "all"
    ) -> Terms:
        """Returns the terms of the ELBO; needs the rng stream `sample`.

        Args:
          image: float (B, H, W, C) in [0, 1], the full image.
          mask: bool (B, H, W, 1), True = observed.
          train: True is the autoencoder: z from the image (or the masked one), KL to N(0, I). False is the
            test: z from the masked image, and as KL how far the full image's is from that.
          num_samples: K, latent samples per image.
          target: "all" or "unobserved" pixels in `log_prob`.
        """
        everything = jnp.ones_like(mask)
        if train:
            z_distribution = self.latent(image, mask if self.trains_masked else everything)
            mean, scale = z_distribution
            kl_per_dim = objectives.gaussian_kl(mean, scale, jnp.zeros_like(mean), jnp.ones_like(scale))
        else:
            z_distribution = self.latent(image, mask)
            kl_per_dim = objectives.gaussian_kl(*self.latent(image, everything), *z_distribution)
        completion = self._sample(z_distribution, image.shape[1:3], train, num_samples)
        return self.head.terms(image, mask, completion, target=target, kl_per_dim=kl_per_dim)

    def complete(self, image: jax.Array, mask: jax.Array, *, num_samples: int) -> Completion:
        """Reconstructs each masked image `num_samples` times; needs the rng stream `sample`."""
        return self._sample(self.latent(image, mask), image.shape[1:3], False, num_samples)

    def latent(self, image: jax.Array, mask: jax.Array) -> heads.Gaussian:
        """Mean and standard deviation of q(z | image where observed), float32 (B, Z) each."""
        self.check_inputs(image, mask)
        x = grid.hide_unobserved(image, mask)
        if self.trains_masked:
            x = jnp.concatenate([x, mask.astype(x.dtype)], axis=-1)
        for layer in self.encoder:
            x = nn.gelu(layer(x))
        return heads.latent_gaussian(self.to_latent(x.reshape(x.shape[0], -1).astype(jnp.float32)))

    @nn.compact
    def _sample(self, z_distribution, size, train, num_samples):
        """Distribution of y (S, B, H, W, C) for S draws of z."""
        z = self.sample_latent(z_distribution, train=train, num_samples=num_samples)
        s, b, num_dims = z.shape
        h, w = size
        small = [-(-side // 2**self.num_halvings) for side in size]
        x = nn.Dense(small[0] * small[1] * self.width, dtype=self.dtype, name="from_latent")(
            jnp.swapaxes(z, 0, 1).reshape(b * s, num_dims)
        )
        x = x.reshape(b * s, *small, self.width)
        for layer in self.decoder:
            x = layer(nn.gelu(x))
        out = self.to_image(nn.gelu(x))[:, :h, :w].astype(jnp.float32)  # odd sides were rounded up
        return self.head(jnp.swapaxes(out.reshape(b, s, h, w, -1), 0, 1))

    def takes_size(self, size: tuple[int, int], trained_size: tuple[int, int]) -> str | None:
        """Why a picture of `size` (H, W) cannot be completed, in a sentence; None where it can be."""
        if tuple(size) == tuple(trained_size):
            return None
        (h, w), (trained_h, trained_w) = size, trained_size
        return (
            f"The image has {h}x{w} pixels (rows x columns), and a VAE takes only the size that it was "
            f"trained on, {trained_h}x{trained_w}: resize it."
        )

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Memory that one sample of one picture of `size` (H, W) takes, about; measured: 1.3 maps."""
        h, w = size
        return 4 * 2 * h * w * self.width


class VAE(ConvVAE):
    """Trained on whole images."""

    trains_masked = False


class MaskedVAE(ConvVAE):
    """Trained on masked images."""

    trains_masked = True
