"""The multi-scale image neural process: kernel interpolation in front of a U-Net, mean and covariance heads.

The context is first interpolated by K separable kernels of learned length scale. A multi-scale residual
network sees the masked image, the mask, the K values and the K confidences, and answers with

    mean_i = value_1(i) + f_i,    Sigma_i = L_i L_i^T,

value_1 that of the sharpest kernel, L_i a lower-triangular C x C factor. The two heads are trained apart:

    reconstruction = -n/2 log(MSE over the image's n target values + 1e-5)
                     + w log Normal(y | stop_gradient(mean), Sigma)

The first term is the Gaussian log-likelihood with one scale per image at its maximum-likelihood value, so an
uncertain scale never slows the mean.

With `latent_dim` a latent variable z, pooled from the coarsest features and added to them, makes it a latent
neural process, trained by the ELBO; without it the answers to one context differ by rounds alone (`rounds`).
"""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax import objectives
from ifanp_jax.errors import UserError
from ifanp_jax.models import fields, heads
from ifanp_jax.models.base import Completion, Terms
from ifanp_jax.models.neural_process import NeuralProcess
from ifanp_jax.modules import kernel_interpolation, points, unet


class Encoded(NamedTuple):
    """What the way down knows of a context.

    Attributes:
      base: float32 (B, H, W, C), the sharpest kernel's values, or the masked image without kernels.
      features: of each level of the network.
      valid: float32 (1 or B, H', W', 1), 1 inside the picture and 0 in its padding; None without padding.
    """

    base: jax.Array
    features: list[jax.Array]
    valid: jax.Array | None


class MultiscaleNP(NeuralProcess, kw_only=True):
    """p(y | M) = prod_i Normal(y_i | mean_i, L_i L_i^T), any size, 1 or 3 channels.

    Attributes:
      length_scales: of the kernels at the start, in pixels; the mean is a residual on the first one's value,
        and without kernels, (), on the masked image.
      widths: channels at full, half, quarter, ... resolution.
      down_blocks: residual blocks of each level on the way down.
      up_blocks: residual blocks of each level but the coarsest on the way up.
      activation: "gelu", "silu" or "leaky_relu".
      latent_dim: Z, dimensions of z; 0 = no latent variable.
      temperature: factor of the noise of samples by rounds, chosen on held-out images; what a caller asks for
        multiplies it.
    """

    length_scales: tuple[float, ...] = kernel_interpolation.LENGTH_SCALES
    widths: tuple[int, ...] = (32, 96, 192)
    down_blocks: tuple[int, ...] = (1, 2, 2)
    up_blocks: tuple[int, ...] = (1, 2)
    activation: str = "gelu"
    latent_dim: int = 0
    likelihood: str = "per_image"
    sigma_floor: float = 0.004
    scale_weight: float = 0.3
    has_covariance: bool = True
    temperature: float = 1.0

    def __post_init__(self):
        """Checks the fields."""
        levels = len(self.widths)
        if len(self.down_blocks) != levels or len(self.up_blocks) != levels - 1:
            raise UserError(
                f"config.model has {levels} widths, {len(self.down_blocks)} down_blocks and "
                f"{len(self.up_blocks)} up_blocks; give as many down_blocks and one up_blocks less."
            )
        fields.check_choice(self, "activation", tuple(unet.ACTIVATIONS))
        fields.check_range(self, "latent_dim", 0)
        fields.check_range(self, "temperature", 0)
        super().__post_init__()

    def setup(self):
        """Builds the parts."""
        super().setup()
        self.kernels = kernel_interpolation.KernelInterpolation(tuple(self.length_scales))
        self.network = unet.UNet(
            tuple(self.widths), tuple(self.down_blocks), tuple(self.up_blocks), self.activation, self.dtype
        )
        # Zero at the start: the first answer is the sharpest kernel's, with one scale everywhere.
        self.mean_head = nn.Dense(self.channels, kernel_init=nn.initializers.zeros)
        if num_scales := self.head.num_outputs - self.channels:
            self.scale_head = nn.Dense(num_scales, kernel_init=nn.initializers.zeros)
        if self.latent_dim > 0:
            self.latent_head = points.PointwiseEncoder((self.widths[-1], 2 * self.latent_dim))
            self.from_z = nn.Dense(self.widths[-1], dtype=self.dtype)

    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool, num_samples: int = 1, target: str = "all"
    ) -> Terms:
        """Returns the terms of the objective; needs the rng stream `sample` where there is z.

        A training draws z from q(z | full image), a test from q(z | context), all that it may use.
        """
        self.check_inputs(image, mask)
        context = self.encode(image, mask)
        z, kl_per_dim = None, None
        if self.latent_dim > 0:
            prior = self.latent(context)
            posterior = self.latent(self.encode(image, jnp.ones_like(mask)))
            kl_per_dim = objectives.gaussian_kl(*posterior, *prior)
            z = self.sample_latent(posterior if train else prior, train=train, num_samples=num_samples)
        completion = self.decode(context, z)
        return self.head.terms(image, mask, completion, target=target, kl_per_dim=kl_per_dim)

    def complete(
        self, image: jax.Array, mask: jax.Array, *, num_samples: int, inside: jax.Array | None = None
    ) -> Completion:
        """Completes each image; without a latent variable the S answers are equal.

        Args:
          image: float (B, H, W, C) in [0, 1]; unobserved pixels are never read.
          mask: bool (B, H, W, 1), True = observed.
          num_samples: S.
          inside: bool (1 or B, H, W, 1), False in padding around the pictures, where `mask` must be False
            as well. A picture gets the answer that it gets alone where it begins at multiples of the
            coarsest cell; without a latent variable only.
        """
        self.check_inputs(image, mask)
        context = self.encode(image, mask, inside=inside)
        z = None
        if self.latent_dim > 0:
            z = self.sample_latent(self.latent(context), train=False, num_samples=num_samples)
        completion = self.decode(context, z)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_samples, *x.shape[1:])), completion)

    def encode(self, image: jax.Array, mask: jax.Array, *, inside: jax.Array | None = None) -> Encoded:
        """Kernel interpolation and the network's way down; `inside` as of `complete`."""
        b, h, w, _ = image.shape
        values, confidences = self.kernels(image, mask)  # (B, H, W, K, C) and (B, H, W, K)
        observed = jnp.where(mask, image, 0).astype(jnp.float32)
        inputs = [observed, mask.astype(jnp.float32), values.reshape(b, h, w, -1), confidences]
        inputs, valid = pad_to_multiple(jnp.concatenate(inputs, axis=-1), self.cell, inside=inside)
        base = values[:, :, :, 0] if self.length_scales else observed
        return Encoded(base, self.network.down(inputs, valid=valid), valid)

    def latent(self, encoded: Encoded) -> heads.Gaussian:
        """Mean and standard deviation of q(z | what was encoded), float32 (B, Z) each."""
        # The padding is shorter than a coarsest cell, so each of them holds a part of the picture.
        pooled = jnp.mean(encoded.features[-1], axis=(1, 2), dtype=jnp.float32)
        return heads.latent_gaussian(self.latent_head(pooled))

    def decode(self, encoded: Encoded, z: jax.Array | None) -> Completion:
        """Decodes each z by adding a linear map of it to the coarsest features, everywhere alike.

        Args:
          encoded: from `encode`.
          z: (S, B, Z), or None without a latent variable: then S = 1.
        """
        b, h, w, _ = encoded.base.shape
        features, s = list(encoded.features), 1
        if z is not None:
            s = z.shape[0]
            # An image's samples lie side by side, so that all stay on the device that holds the image.
            features = [jnp.repeat(x, s, axis=0) for x in features]
            from_z = jnp.swapaxes(self.from_z(z), 0, 1).reshape(b * s, 1, 1, -1)
            features[-1] = features[-1] + from_z
        x = self.network.up(features, valid=encoded.valid)[:, :h, :w]
        x = unet.ACTIVATIONS[self.activation](x).astype(jnp.float32)
        x = jnp.swapaxes(x.reshape(b, s, h, w, -1), 0, 1)  # (S, B, H, W, D)
        outputs = [encoded.base[None] + self.mean_head(x)]
        if self.head.num_outputs > self.channels:
            outputs.append(self.scale_head(x))
        return self.head(jnp.concatenate(outputs, axis=-1))

    @property
    def cell(self) -> int:
        """Side of a cell of the coarsest map, in pixels."""
        return 2 ** (len(self.widths) - 1)

    def tile_margin(self) -> int | None:
        """How far the network looks around cells of `cell` pixels, in pixels: a tile needs so much around it.

        The kernels look further, with weights that fall by exp(-distance / length scale). None with a latent
        variable, which is one for the whole picture.
        """
        if self.latent_dim > 0:
            return None
        reach, levels = 0, range(len(self.widths))
        way = [
            *zip(levels, self.up_blocks, strict=False),
            *reversed(list(zip(levels, self.down_blocks, strict=True))),
        ]
        for level, blocks in way:
            side = 2**level
            reach = side * (-(-reach // side) + 2 * blocks)  # a block looks two cells of its level far
        return self.cell * -(-reach // self.cell)

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Memory that one sample of one picture of `size` (H, W) takes, about: maps, and kernels' sums."""
        n = size[0] * size[1]
        kernels = len(self.length_scales) * (self.channels + 1)
        return 4 * (
            6 * n * self.widths[0] + 4 * n * kernels + len(self.length_scales) * sum(s * s for s in size)
        )


def pad_to_multiple(
    x: jax.Array, multiple: int, *, inside: jax.Array | None = None
) -> tuple[jax.Array, jax.Array | None]:
    """Pads (B, H, W, F) with zeros at the bottom and right to sides that are multiples of `multiple`.

    Args:
      x: float (B, H, W, F).
      multiple: of the sides.
      inside: bool (1 or B, H, W, 1), False in padding that `x` has already; it is set to zero there.

    Returns:
      The padded array, and float32 (1 or B, H', W', 1), 1 inside the picture; None where there is no padding.
    """
    chex.assert_rank(x, 4)
    _, h, w, _ = x.shape
    rows, columns = -h % multiple, -w % multiple
    if rows == columns == 0 and inside is None:
        return x, None
    padding = ((0, 0), (0, rows), (0, columns), (0, 0))
    valid = jnp.ones((1, h, w, 1)) if inside is None else inside.astype(jnp.float32)
    x = x if inside is None else jnp.where(inside, x, 0)
    if rows == columns == 0:
        return x, valid
    return jnp.pad(x, padding), jnp.pad(valid, padding)
