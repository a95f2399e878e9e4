"""From a network's outputs to a likelihood, and from a latent distribution to samples."""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax import objectives
from ifanp_jax.errors import UserError
from ifanp_jax.models import fields
from ifanp_jax.models.base import Completion, Terms

LIKELIHOODS = ("fixed", "learned", "per_pixel", "per_image")

Gaussian = tuple[jax.Array, jax.Array]  # mean and standard deviation, (B, Z) each


class GaussianHead(nn.Module):
    """p(y | mean, sigma), with sigma or the covariance of a pixel's channels as asked for.

    Normal; under "per_image", Student's t with 4 degrees of freedom, sigma its standard deviation.

    | likelihood | standard deviation                                 | `reconstruction`             |
    |------------|----------------------------------------------------|------------------------------|
    | fixed      | `sigma`                                            | log p                        |
    | learned    | floor + (1 - floor) softplus(s), s one parameter   | log p                        |
    | per_pixel  | the same, s an output per value                    | log p                        |
    | per_image  | floor + softplus(s), s an output per value; or a   | -n/2 log(MSE + 1e-5)         |
    |            | factor L with that diagonal, covariance L L^T      | + w log p, the mean constant |

    "per_image" trains mean and scale apart. The mean's term is a Gaussian with one scale per image at its
    maximum likelihood, MSE over the image's n target values; the scale's has the mean under stop_gradient, so
    an uncertain scale never slows the mean.

    Attributes:
      channels: C of the images.
      likelihood: of LIKELIHOODS.
      sigma: the fixed value, or the start of "learned" and "per_image", in intensities [0, 1].
      sigma_floor: lower bound of every sigma but the fixed one; it caps the log-likelihood.
      scale_weight: w of "per_image"; 0 = no scale at all.
      has_covariance: "per_image": a lower-triangular factor per pixel instead of independent channels.
    """

    channels: int
    likelihood: str = "fixed"
    sigma: float = 0.1
    sigma_floor: float = 0.01
    scale_weight: float = 0.1
    has_covariance: bool = False

    def __post_init__(self):
        """Checks the fields."""
        check_likelihood(self)
        super().__post_init__()

    @property
    def num_outputs(self) -> int:
        """Channels that the network must answer with: the mean first, then what the scale is made of."""
        if self.likelihood == "per_pixel":
            return 2 * self.channels
        if self.likelihood == "per_image" and self.scale_weight > 0:
            return self.channels + (
                self.channels * (self.channels + 1) // 2 if self.has_covariance else self.channels
            )
        return self.channels

    @nn.compact
    def __call__(self, out: jax.Array) -> Completion:
        """Splits outputs into mean and scale.

        Args:
          out: float32 (S, B, H, W, `num_outputs`).
        """
        chex.assert_axis_dimension(out, -1, self.num_outputs)
        mean, raw = out[..., : self.channels], out[..., self.channels :]
        if self.likelihood == "fixed":
            return Completion(samples=mean, scale=jnp.full_like(mean, self.sigma))
        if self.likelihood == "per_image":
            return self._trained_apart(mean, raw)
        if self.likelihood == "learned":
            start = inverse_softplus((self.sigma - self.sigma_floor) / (1 - self.sigma_floor))
            raw = self.param("raw_sigma", nn.initializers.constant(start), ())
            raw = jnp.broadcast_to(raw, mean.shape)
        scale = self.sigma_floor + (1 - self.sigma_floor) * nn.softplus(raw)
        return Completion(samples=mean, scale=scale)

    def _trained_apart(self, mean, raw):
        """Mean and scale of "per_image"; an output of 0 gives `sigma`."""
        if self.scale_weight == 0:
            return Completion(samples=mean)
        start = inverse_softplus(self.sigma - self.sigma_floor)
        diagonal = self.sigma_floor + nn.softplus(raw[..., : self.channels] + start)
        if not self.has_covariance:
            return Completion(samples=mean, scale=diagonal, distribution="student_t")
        cholesky = cholesky_factor(diagonal, raw[..., self.channels :])
        scale = jnp.sqrt(jnp.sum(jnp.square(cholesky), axis=-1))
        return Completion(samples=mean, scale=scale, cholesky=cholesky, distribution="student_t")

    def terms(
        self,
        image: jax.Array,
        mask: jax.Array,
        completion: Completion,
        *,
        target: str,
        kl_per_dim: jax.Array | None = None,
    ) -> Terms:
        """The terms of an objective.

        Args:
          image: float (B, H, W, C).
          mask: bool (B, H, W, 1), True = observed.
          completion: what the head made of the outputs, K samples.
          target: "all" or "unobserved" pixels in `reconstruction` and `log_prob`.
          kl_per_dim: float32 (B, Z); None without a latent variable.
        """
        targets = objectives.target_pixels(mask, target)
        if self.likelihood == "per_image":
            reconstruction = objectives.per_image_log_prob(image, completion.samples, targets).mean(axis=0)
            constant = completion.replace(samples=jax.lax.stop_gradient(completion.samples))
            log_prob = completion_log_prob(image, constant, targets)
            if log_prob is not None:
                log_prob = log_prob.mean(axis=0)
                reconstruction = reconstruction + self.scale_weight * log_prob
        else:
            reconstruction = log_prob = completion_log_prob(image, completion, targets).mean(axis=0)
        return Terms(
            reconstruction=reconstruction,
            log_prob=log_prob,
            kl=None if kl_per_dim is None else kl_per_dim.sum(axis=-1),
            kl_per_dim=kl_per_dim,
            prediction=completion.samples.mean(axis=0),
            scale=None if completion.scale is None else completion.scale.mean(axis=0),
        )


def check_likelihood(model: nn.Module) -> None:
    """Raises a UserError for fields of `GaussianHead` that cannot work."""
    fields.check_choice(model, "likelihood", LIKELIHOODS)
    fields.check_range(model, "sigma", 1e-6)
    fields.check_range(model, "sigma_floor", 0, high=0.999)
    fields.check_range(model, "scale_weight", 0)
    if model.likelihood in ("learned", "per_image") and model.sigma <= model.sigma_floor:
        raise UserError(
            f"config.model.sigma is {model.sigma}; with likelihood {model.likelihood!r} it is where sigma "
            f"starts and must be above config.model.sigma_floor, which is {model.sigma_floor}."
        )
    if model.has_covariance and (model.likelihood != "per_image" or model.scale_weight == 0):
        raise UserError(
            "config.model.has_covariance is True; it needs config.model.likelihood=per_image and a positive "
            "config.model.scale_weight."
        )


def inverse_softplus(x: float) -> float:
    """The y > 0 for which softplus(y) = log(1 + exp(y)) is `x`."""
    return math.log(math.expm1(x))


def cholesky_factor(diagonal: jax.Array, regression: jax.Array) -> jax.Array:
    """Lower-triangular factor L = (I - T)^-1 diag(d) of a covariance L L^T.

    T holds each channel's regression on the errors of the channels before it, e_i = sum_{j < i} T_ij e_j +
    d_i w_i with w ~ Normal(0, I). A small d_1 then divides one error alone. With the entries of L as outputs
    it would divide all later ones too, and a training would start with losses of 1e9.

    Args:
      diagonal: positive float (..., C), d.
      regression: float (..., C (C - 1) / 2), the entries of T below its diagonal, row by row.

    Returns:
      float (..., C, C).
    """
    c = diagonal.shape[-1]
    chex.assert_axis_dimension(regression, -1, c * (c - 1) // 2)
    entries, zero = iter(range(regression.shape[-1])), jnp.zeros_like(diagonal[..., 0])
    rows = []  # L_i = sum_{j < i} T_ij L_j + d_i unit_i
    for i in range(c):
        weights = [regression[..., next(entries)] for _ in range(i)]
        below = [sum(weight * rows[j][k] for j, weight in enumerate(weights)) for k in range(i)]
        rows.append([*below, diagonal[..., i], *[zero] * (c - 1 - i)])
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def raise_floor(completion: Completion, floor: float) -> Completion:
    """The same answer with every standard deviation at least a floor; of a channel, given those before it.

    With a factor L = (I - T)^-1 diag(d), see `cholesky_factor`, d is raised and T kept.

    Args:
      completion: with a scale.
      floor: in intensities; 0 changes nothing.
    """
    if not floor:
        return completion
    if completion.cholesky is None:
        return completion.replace(scale=jnp.maximum(completion.scale, floor))
    diagonal = jnp.diagonal(completion.cholesky, axis1=-2, axis2=-1)
    cholesky = completion.cholesky * (jnp.maximum(diagonal, floor) / diagonal)[..., None, :]
    scale = jnp.sqrt(jnp.sum(jnp.square(cholesky), axis=-1))
    return completion.replace(scale=scale, cholesky=cholesky)


def completion_log_prob(image: jax.Array, completion: Completion, targets: jax.Array) -> jax.Array | None:
    """Log-likelihood of an image under each sample of a completion.

    Args:
      image: float (B, H, W, C).
      completion: of S samples; with a factor its channels are correlated.
      targets: bool (B, H, W, 1), the pixels that count.

    Returns:
      float32 (S, B), in nats, sum over target pixels and channels; None for a completion without a scale.
    """
    mean, scale, cholesky = completion.samples, completion.scale, completion.cholesky
    if cholesky is not None:
        return objectives.cholesky_log_prob(
            image, mean, cholesky, targets, distribution=completion.distribution
        )
    if scale is None:
        return None
    if completion.distribution == "student_t":
        return objectives.student_t_log_prob(image, mean, scale, targets)
    return objectives.gaussian_log_prob(image, mean, scale, targets)


def latent_gaussian(raw: jax.Array) -> Gaussian:
    """Mean and standard deviation 0.1 + 0.9 sigmoid(s) of z from float32 (B, 2 Z)."""
    mean, raw_scale = jnp.split(raw, 2, axis=-1)
    return mean, 0.1 + 0.9 * nn.sigmoid(raw_scale)


def sample_latent(
    key: jax.Array, mean: jax.Array, scale: jax.Array, *, train: bool, num_samples: int
) -> jax.Array:
    """Draws z = mean + scale * noise.

    Args:
      key: PRNG key.
      mean: float32 (B, Z).
      scale: float32 (B, Z).
      train: True draws noise for each image; False shares the S draws among the images, so that a completion
        depends neither on the rest of the batch nor on the image's place in it.
      num_samples: S.

    Returns:
      float32 (S, B, Z).
    """
    b, z = mean.shape
    noise = jax.random.normal(key, (num_samples, b if train else 1, z))
    return mean[None] + scale[None] * noise
