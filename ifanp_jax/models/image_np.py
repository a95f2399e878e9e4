"""Image-faced neural processes: IFNP, IFANP and the variants of the paper's ablation.

One module; the variants differ in what follows encoder 1 and in whether there is a deterministic path:

| name         | encoder-1 extra        | deterministic path |
|--------------|------------------------|--------------------|
| IFNP         | none                   | none               |
| IFANP_LPA    | LPA                    | none               |
| IFANP_SENet  | squeeze-and-excitation | none               |
| IFANP_GCA    | none                   | GCA                |
| IFANP        | LPA                    | GCA                |

LPA stands right before the global pool, so r = sum_j w_j R'_j / (H W m_bar) with w_j the weights that reach a
pixel: 1 inside, less at the border, where the window is padded. It changes the border's share of r, no more.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from ifanp_jax import objectives
from ifanp_jax.models import fields, heads
from ifanp_jax.models.base import Completion, Terms
from ifanp_jax.models.neural_process import NeuralProcess
from ifanp_jax.modules import encoder_decoder, gca, grid, lpa, points, squeeze_excitation


class ImageNeuralProcess(NeuralProcess):
    """p(y | M) = int p(z) prod_ij Normal(y_ij | g(m_ij, z, R_pred_ij), sigma^2) dz, g a deconvolution.

    Attributes:
      width: D, channels of every feature map.
      latent_dim: Z, dimensions of z.
      encoder_depth: residual 3x3 convolutions per encoder.
      decoder_depth: residual 3x3 transposed convolutions of the decoder.
      lpa_learned_scale: learn LPA's length scale per channel.
      se_reduction: bottleneck divisor of squeeze-and-excitation.
      gca_blocks: stacked GCA blocks; each further one attends over the previous output and is added to it.
      gca_heads: heads per block.
      gca_embedding: theta, "mlp" or "linear".
    """

    encoder_extra: ClassVar[str]  # what follows encoder 1: "none", "lpa" or "squeeze_excitation"
    has_deterministic_path: ClassVar[bool]  # whether encoder 2 and GCA feed the decoder

    width: int = 64
    latent_dim: int = 64
    encoder_depth: int = 3
    decoder_depth: int = 3
    lpa_learned_scale: bool = False
    se_reduction: int = 4
    gca_blocks: int = 1
    gca_heads: int = 1
    gca_embedding: str = "mlp"

    def __post_init__(self):
        """Checks the fields."""
        fields.check_choice(self, "gca_embedding", gca.EMBEDDINGS)
        for name in ("width", "latent_dim", "se_reduction", "gca_blocks", "gca_heads"):
            fields.check_range(self, name, 1)
        for name in ("encoder_depth", "decoder_depth"):
            fields.check_range(self, name, 0)
        fields.check_divides(self, "gca_heads", "width")
        super().__post_init__()

    def setup(self):
        """Builds the parts."""
        super().setup()
        dtype = self.dtype
        self.encoder1 = encoder_decoder.ConvEncoder(self.width, self.encoder_depth, dtype=dtype)
        if self.encoder_extra == "lpa":
            self.extra = lpa.LocalPoolingAggregation(learned_scale=self.lpa_learned_scale)
        elif self.encoder_extra == "squeeze_excitation":
            self.extra = squeeze_excitation.SqueezeExcitation(self.se_reduction, dtype=dtype)
        self.encoder3 = points.PointwiseEncoder((self.width, 2 * self.latent_dim))
        if self.has_deterministic_path:
            self.encoder2 = encoder_decoder.ConvEncoder(self.width, self.encoder_depth, dtype=dtype)
            self.attention = [
                gca.GlobalCrossAttention(self.width, self.gca_heads, self.gca_embedding, dtype=dtype)
                for _ in range(self.gca_blocks)
            ]
        self.decoder = encoder_decoder.DeconvDecoder(
            self.width, self.decoder_depth, self.head.num_outputs, dtype=dtype
        )

    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool, num_samples: int = 1, target: str = "all"
    ) -> Terms:
        """Returns the terms of the ELBO; needs the rng stream `sample`.

        A training draws z from q(z | full image), a test from q(z | context), all that it may use.
        """
        self.check_inputs(image, mask)
        b = image.shape[0]
        # Context and full image go through the same encoder, in one pass; side by side, not one batch after
        # the other, so that both stay on the device that holds the image.
        pair = jnp.stack([mask, jnp.ones_like(mask)], axis=1).reshape(2 * b, *mask.shape[1:])
        mean, scale = self.latent(jnp.repeat(image, 2, axis=0), pair)
        context, full = (mean[0::2], scale[0::2]), (mean[1::2], scale[1::2])
        z = self.sample_latent(full if train else context, train=train, num_samples=num_samples)
        completion = self.decode(z, self.deterministic(image, mask), image.shape[1:3])
        kl_per_dim = objectives.gaussian_kl(*full, *context)
        return self.head.terms(image, mask, completion, target=target, kl_per_dim=kl_per_dim)

    def complete(self, image: jax.Array, mask: jax.Array, *, num_samples: int) -> Completion:
        """Completes each image `num_samples` times from its context alone; needs the rng stream `sample`."""
        self.check_inputs(image, mask)
        z = self.sample_latent(self.latent(image, mask), train=False, num_samples=num_samples)
        return self.decode(z, self.deterministic(image, mask), image.shape[1:3])

    def latent(self, image: jax.Array, mask: jax.Array) -> heads.Gaussian:
        """Latent path: mean and standard deviation of q(z | image where observed), float32 (B, Z) each."""
        inputs = _masked_input(image, mask)
        if self.encoder_extra == "squeeze_excitation":
            mean = jnp.mean(self.extra(self.encoder1(inputs)), axis=(1, 2), dtype=jnp.float32)
        else:
            h, w = image.shape[1:3]
            shares = jnp.ones((h, w, 1))
            if self.encoder_extra == "lpa":  # only the mean of the pooled map is asked for
                shares = self.extra.shares(h, w, self.width)
            mean = self.encoder1.mean(inputs, shares)
        r = encoder_decoder.divide_by_observed(mean, mask)  # (B, D)
        return heads.latent_gaussian(self.encoder3(r))

    def deterministic(self, image: jax.Array, mask: jax.Array) -> jax.Array | None:
        """Deterministic path: R_pred, (B, H, W, D), or None for a variant without it."""
        if not self.has_deterministic_path:
            return None
        features = self.encoder2(_masked_input(image, mask))  # R_M+
        positions = grid.coordinates(*image.shape[1:3])
        prediction = self.attention[0](features, mask, positions)
        for block in self.attention[1:]:
            prediction = prediction + block(prediction, mask, positions)
        return prediction

    def decode(self, z: jax.Array, features: jax.Array | None, size: tuple[int, int]) -> Completion:
        """Distribution of y (S, B, H, W, C) for each z (S, B, Z)."""
        return self.head(self.decoder(z, features, grid.coordinates(*size)))

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Memory that one sample of one picture of `size` (H, W) takes, about.

        Measured: 5 maps of D channels, with attention 5 to 13 and its similarity matrices.
        """
        n = size[0] * size[1]
        if not self.has_deterministic_path:
            return 4 * 5 * n * self.width
        return 4 * (8 * n * self.width + gca.num_entries(n, self.gca_heads))


class IFNP(ImageNeuralProcess):
    """Neither LPA nor a deterministic path."""

    encoder_extra = "none"
    has_deterministic_path = False


class IFANP_LPA(ImageNeuralProcess):  # noqa: N801, the paper's name
    """LPA alone."""

    encoder_extra = "lpa"
    has_deterministic_path = False


class IFANP_SENet(ImageNeuralProcess):  # noqa: N801, the paper's name
    """Squeeze-and-excitation in LPA's place, no deterministic path."""

    encoder_extra = "squeeze_excitation"
    has_deterministic_path = False


class IFANP_GCA(ImageNeuralProcess):  # noqa: N801, the paper's name
    """GCA alone."""

    encoder_extra = "none"
    has_deterministic_path = True


class IFANP(ImageNeuralProcess):
    """LPA and GCA: the paper's model."""

    encoder_extra = "lpa"
    has_deterministic_path = True


def _masked_input(image: jax.Array, mask: jax.Array) -> jax.Array:
    """concat(image * mask, coordinates * mask), (B, H, W, C + 2)."""
    positions = jnp.broadcast_to(grid.coordinates(*image.shape[1:3])[None], (*image.shape[:3], 2))
    return grid.hide_unobserved(jnp.concatenate([image, positions.astype(image.dtype)], axis=-1), mask)
