"""From a network's output to the terms that every family answers with."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax import objectives
from ifanp_jax.errors import UserError
from ifanp_jax.models.outputs import Terms

LIKELIHOODS = ("fixed", "learned", "per_pixel")

Gaussian = tuple[jax.Array, jax.Array]  # mean and standard deviation, (B, Z) each


def check(likelihood: str) -> None:
    """Raises a UserError for a name that is not of LIKELIHOODS."""
    if likelihood not in LIKELIHOODS:
        raise UserError(f"likelihood is {likelihood!r}; choose one of {', '.join(LIKELIHOODS)}.")


def num_outputs(likelihood: str, channels: int) -> int:
    """Channels that the network must answer with."""
    return channels * (2 if likelihood == "per_pixel" else 1)


def initial_raw_sigma(sigma: float, sigma_floor: float) -> float:
    """The raw value at which a "learned" sigma starts: the inverse of `gaussian` below."""
    return math.log(math.expm1((sigma - sigma_floor) / (1 - sigma_floor)))


def gaussian(
    out: jax.Array, channels: int, likelihood: str, sigma: float, sigma_floor: float, raw_sigma
) -> Gaussian:
    """Mean and standard deviation of each value.

    sigma = the constant, or floor + (1 - floor) * softplus(raw), raw one scalar or an output per value.

    Args:
      out: float32 (..., `num_outputs`).
      channels: C.
      likelihood: of LIKELIHOODS.
      sigma: the value of "fixed".
      sigma_floor: lower bound of the two others.
      raw_sigma: float32 scalar of "learned"; None for the others.

    Returns:
      float32 (..., C) each.
    """
    mean = out[..., :channels]
    if likelihood == "fixed":
        return mean, jnp.full_like(mean, sigma)
    raw = jnp.broadcast_to(raw_sigma, mean.shape) if likelihood == "learned" else out[..., channels:]
    return mean, sigma_floor + (1 - sigma_floor) * nn.softplus(raw)


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


def elbo_terms(
    image: jax.Array,
    mask: jax.Array,
    samples: jax.Array,
    sigma: jax.Array,
    kl_per_dim: jax.Array,
    target: str,
) -> Terms:
    """The terms of K samples.

    Args:
      image: float (B, H, W, C).
      mask: bool (B, H, W, 1), True = observed.
      samples: float32 (K, B, H, W, C), predicted means.
      sigma: float32, like `samples`.
      kl_per_dim: float32 (B, Z); Z = 0 without a latent variable.
      target: "all" or "unobserved" pixels in `log_prob`.
    """
    targets = objectives.target_pixels(mask, target)
    log_prob = objectives.gaussian_log_prob(image, samples, sigma, targets).mean(axis=0)
    return Terms(
        reconstruction=log_prob,
        log_prob=log_prob,
        kl=kl_per_dim.sum(axis=-1),
        kl_per_dim=kl_per_dim,
        prediction=samples.mean(axis=0),
        scale=sigma.mean(axis=0),
    )
