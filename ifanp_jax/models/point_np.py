"""The neural-process family on pixels as points: x = coordinates, y = intensities.

| name | deterministic path            | latent path | source                   |
|------|-------------------------------|-------------|--------------------------|
| CNP  | mean over the context         | none        | Garnelo et al., 2018a    |
| LNP  | none                          | z           | Garnelo et al., 2018b    |
| NP   | mean over the context         | z           | Garnelo et al., 2018b    |
| ANP  | cross-attention to the context| z           | Kim et al., 2019         |

Every image is N = H * W points and a mask says which are context, so no shape depends on the context.
"""

from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax import objectives
from ifanp_jax.models import fields, heads
from ifanp_jax.models.base import Completion, Terms
from ifanp_jax.models.neural_process import NeuralProcess
from ifanp_jax.modules import gca, grid, points
from ifanp_jax.modules.fast import blocked_attention


class PointNeuralProcess(NeuralProcess):
    """p(y_T | C) = int p(z | C) prod_i Normal(y_i | d(x_i, r_i, z), sigma_i^2) dz.

    Attributes:
      has_self_attention: also self-attention in the encoders of a model with attention; its time grows with
        the square of the pixels of every image, its memory does not.
      width: D, of every layer.
      latent_dim: Z.
      encoder_depth: layers of each encoder.
      decoder_depth: hidden layers of the decoder.
      num_heads: of the attention.
    """

    has_deterministic_path: ClassVar[bool]  # whether the decoder sees r, the context's representation
    has_latent_path: ClassVar[bool]  # whether it sees z; without it all samples are one
    has_attention: ClassVar[bool]  # r_i by cross-attention from x_i instead of the mean

    has_self_attention: bool = True
    width: int = 128
    latent_dim: int = 64
    encoder_depth: int = 3
    decoder_depth: int = 4
    num_heads: int = 4

    def __post_init__(self):
        """Checks the fields."""
        for name in ("width", "latent_dim", "decoder_depth", "num_heads"):
            fields.check_range(self, name, 1)
        fields.check_range(self, "encoder_depth", 1 if self.has_attention else 0)
        if self.has_attention:
            fields.check_divides(self, "num_heads", "width")
        super().__post_init__()

    def setup(self):
        """Builds the parts."""
        super().setup()
        dtype = self.dtype
        hidden = (self.width,) * self.encoder_depth
        if self.has_deterministic_path:
            self.encoder = points.PointwiseEncoder(hidden, dtype=dtype)
        if self.has_latent_path:
            self.latent_encoder = points.PointwiseEncoder(hidden, dtype=dtype)
            self.to_latent = points.PointwiseEncoder((self.width, 2 * self.latent_dim))
        if self.has_attention:
            self.position_encoder = points.PointwiseEncoder((self.width, self.width))
            self.cross_attention = PositionAttention(self.width, self.num_heads, dtype=dtype)
            if self.has_self_attention:
                self.self_attention = MaskedAttention(self.width, self.num_heads, dtype=dtype)
                self.latent_self_attention = MaskedAttention(self.width, self.num_heads, dtype=dtype)
        self.decoder = PointDecoder(self.width, self.decoder_depth, self.head.num_outputs, dtype=dtype)

    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool, num_samples: int = 1, target: str = "all"
    ) -> Terms:
        """Returns the terms of the ELBO (of the log-likelihood, without z); needs the rng stream `sample`.

        A training draws z from q(z | full image), a test from q(z | context), all that it may use.
        """
        context = self.latent(image, mask)
        full = self.latent(image, jnp.ones_like(mask))
        completion = self._sample(full if train else context, image, mask, train, num_samples)
        kl_per_dim = objectives.gaussian_kl(*full, *context) if self.has_latent_path else None
        return self.head.terms(image, mask, completion, target=target, kl_per_dim=kl_per_dim)

    def complete(self, image: jax.Array, mask: jax.Array, *, num_samples: int) -> Completion:
        """Completes each image `num_samples` times from its context alone; needs the rng stream `sample`."""
        return self._sample(self.latent(image, mask), image, mask, False, num_samples)

    def latent(self, image: jax.Array, mask: jax.Array) -> heads.Gaussian:
        """Mean and standard deviation of q(z | context), float32 (B, Z) each; Z = 0 without a latent path."""
        pairs, observed = self.pairs(image, mask)
        if not self.has_latent_path:
            return jnp.zeros((image.shape[0], 0)), jnp.ones((image.shape[0], 0))
        features = self.latent_encoder(pairs)
        if self.has_attention and self.has_self_attention:
            features = features + self.latent_self_attention(features, observed)
        return heads.latent_gaussian(self.to_latent(masked_mean(features, observed)))

    def deterministic(self, image: jax.Array, mask: jax.Array) -> jax.Array | None:
        """r: (B, 1, D), the same for every point, or (B, N, D) by attention; None without the path."""
        if not self.has_deterministic_path:
            return None
        pairs, observed = self.pairs(image, mask)
        features = self.encoder(pairs)
        if not self.has_attention:
            return masked_mean(features, observed)[:, None].astype(features.dtype)
        if self.has_self_attention:
            features = features + self.self_attention(features, observed)
        positions = grid.coordinates(*image.shape[1:3]).reshape(-1, 2)
        return self.cross_attention(self.position_encoder(positions), features, observed)

    def pairs(self, image: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Points (x, y), y = 0 where unobserved: (B, N, 2 + C), and (B, N) which are context."""
        self.check_inputs(image, mask)
        b, h, w, c = image.shape
        x = jnp.broadcast_to(grid.coordinates(h, w).reshape(1, h * w, 2), (b, h * w, 2))
        y = jnp.where(mask, image, 0).reshape(b, h * w, c)
        return jnp.concatenate([x, y.astype(jnp.float32)], axis=-1), mask.reshape(b, h * w)

    def _sample(self, z_distribution, image, mask, train, num_samples):
        """Distribution of y (S, B, H, W, C) for S draws of z."""
        b, h, w, _ = image.shape
        z = self.sample_latent(z_distribution, train=train, num_samples=num_samples)
        out = self.decoder(grid.coordinates(h, w).reshape(h * w, 2), self.deterministic(image, mask), z)
        return self.head(out.reshape(num_samples, b, h, w, -1))

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Memory that one sample of one picture of `size` (H, W) takes, about.

        Measured: 5 layers of D channels, with attention 8 and its similarity matrices; self-attention holds a
        block at a time of them.
        """
        n = size[0] * size[1]
        if not self.has_attention:
            return 4 * 5 * n * self.width
        pairs = 2 * blocked_attention.num_entries(n, self.num_heads) if self.has_self_attention else 0
        return 4 * (8 * n * self.width + gca.num_entries(n, self.num_heads) + pairs)


class CNP(PointNeuralProcess):
    """The mean over the context, no latent variable."""

    has_deterministic_path = True
    has_latent_path = False
    has_attention = False


class LNP(PointNeuralProcess):
    """A latent variable alone."""

    has_deterministic_path = False
    has_latent_path = True
    has_attention = False


class NP(PointNeuralProcess):
    """The mean over the context and a latent variable."""

    has_deterministic_path = True
    has_latent_path = True
    has_attention = False


class ANP(PointNeuralProcess):
    """Attention to the context and a latent variable."""

    has_deterministic_path = True
    has_latent_path = True
    has_attention = True


def masked_mean(features: jax.Array, observed: jax.Array) -> jax.Array:
    """Mean over the context points, in float32; zeros for an empty context.

    Args:
      features: (B, N, D), any value at other points.
      observed: bool (B, N).

    Returns:
      float32 (B, D).
    """
    chex.assert_rank(features, 3)
    chex.assert_shape(observed, features.shape[:2])
    chex.assert_type(observed, bool)
    total = jnp.sum(jnp.where(observed[:, :, None], features, 0), axis=1, dtype=jnp.float32)
    return total / jnp.maximum(observed.sum(axis=1), 1)[:, None]


class MaskedAttention(nn.Module):
    """Multi-head self-attention of the context points (Vaswani et al., 2017).

    Attributes:
      width: D, of all heads together.
      num_heads: it divides D.
      dtype: of the computation; parameters stay float32.
    """

    width: int
    num_heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, observed: jax.Array) -> jax.Array:
        """Attends from every point to the context.

        Args:
          features: (B, N, D), any finite value at other points.
          observed: bool (B, N).

        Returns:
          (B, N, D); the bias alone for an empty context.
        """
        b, n, _ = features.shape

        def project(name, x):
            heads = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name=name)(x)
            return heads.reshape(b, n, self.num_heads, -1)

        attended = blocked_attention.attend(
            project("query", features), project("key", features), project("value", features), observed
        )
        return nn.Dense(self.width, dtype=self.dtype, name="out")(attended.reshape(b, n, self.width))


class PositionAttention(nn.Module):
    """Multi-head cross-attention whose queries and keys are positions (Kim et al., 2019).

    All images share the grid, so each head's weights are made once for the batch, as in `gca.attend`; for
    that, queries and keys are kept in its ball.

    Attributes:
      width: D, of all heads together.
      num_heads: it divides D.
      dtype: of the values; queries and keys are float32.
    """

    width: int
    num_heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, positions: jax.Array, values: jax.Array, observed: jax.Array) -> jax.Array:
        """Attends from every position to each image's context.

        Args:
          positions: float32 (N, D), embedded.
          values: (B, N, D), any finite value at other points.
          observed: bool (B, N).

        Returns:
          (B, N, D); the bias alone for an empty context.
        """

        def project(name, x, dtype):
            heads = nn.Dense(self.width, use_bias=False, dtype=dtype, name=name)(x)
            return heads.reshape(*x.shape[:-1], self.num_heads, -1)

        scale = (self.width // self.num_heads) ** -0.25  # of both: logits over sqrt(D / heads)
        query = scale * project("query", positions, jnp.float32)
        key = scale * project("key", positions, jnp.float32)
        values = project("value", values, self.dtype)
        heads = [
            gca.attend(key[:, head], values[:, :, head], observed, targets=query[:, head])
            for head in range(self.num_heads)
        ]
        return nn.Dense(self.width, dtype=self.dtype, name="out")(jnp.concatenate(heads, axis=-1))


class PointDecoder(nn.Module):
    """An MLP on concat(x, r, z) at every point; its first layer is applied to each part and summed.

    Attributes:
      width: D, of the hidden layers.
      depth: hidden layers.
      out_channels: channels of the output.
      dtype: of the computation; parameters and the output are float32.
    """

    width: int
    depth: int
    out_channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, r: jax.Array | None, z: jax.Array) -> jax.Array:
        """Decodes S latent samples per image.

        Args:
          x: float32 (N, 2).
          r: (B, N, D) or (B, 1, D), or None.
          z: (S, B, Z), Z may be 0.

        Returns:
          float32 (S, B, N, out_channels).
        """
        s, b, num_dims = z.shape

        def first_layer(name, part):
            return nn.Dense(self.width, use_bias=name == "from_x", dtype=self.dtype, name=name)(part)

        hidden = first_layer("from_x", x)[None]  # (1, N, D)
        if r is not None:
            hidden = hidden + first_layer("from_r", r)  # (B, N, D)
        hidden = hidden[:, None]
        if num_dims:
            from_z = jnp.swapaxes(first_layer("from_z", z), 0, 1)  # (B, S, D)
            hidden = hidden + from_z[:, :, None]  # (B, S, N, D)
        for _ in range(self.depth - 1):
            hidden = nn.Dense(self.width, dtype=self.dtype)(nn.gelu(hidden))
        out = nn.Dense(self.out_channels, dtype=self.dtype)(nn.gelu(hidden)).astype(jnp.float32)
        return jnp.broadcast_to(jnp.swapaxes(out, 0, 1), (s, b, len(x), self.out_channels))
