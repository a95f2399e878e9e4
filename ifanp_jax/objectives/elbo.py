"""Log-likelihoods, KL divergence and bounds, per image: (B,), in nats.

The KL is a sum over latent dimensions and the log-likelihood a sum over target pixels and channels. A summed
KL must never meet a mean log-likelihood: that is a known way to posterior collapse.
"""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
TARGETS = ("all", "unobserved")


def target_pixels(mask: jax.Array, target: str) -> jax.Array:
    """Returns the pixels whose likelihood counts.

    Args:
      mask: bool (B, H, W, 1), True = observed.
      target: "all" pixels (the paper's experiments) or the "unobserved" ones (the paper's equation).

    Returns:
      bool (B, H, W, 1).
    """
    chex.assert_rank(mask, 4)
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}; choose one of {TARGETS}.")
    return jnp.ones_like(mask) if target == "all" else ~mask


def gaussian_log_prob(image: jax.Array, mean: jax.Array, scale: jax.Array, targets: jax.Array) -> jax.Array:
    """Sum over target pixels and channels of log Normal(image | mean, scale^2).

    Args:
      image: float (..., H, W, C).
      mean: float, the shape of `image`, or that with leading sample axes.
      scale: float, like `mean`, positive.
      targets: bool (..., H, W, 1), the pixels that count.

    Returns:
      float32 (...): the leading axes of `mean`.
    """
    return independent_log_prob(lambda square: -0.5 * square - LOG_SQRT_2PI, image, mean, scale, targets)


def independent_log_prob(
    log_density: Callable[[jax.Array], jax.Array],
    image: jax.Array,
    mean: jax.Array,
    scale: jax.Array,
    targets: jax.Array,
) -> jax.Array:
    """Sum over target pixels and channels of log p of independent values with a location and a scale.

    Args:
      log_density: of a value of mean 0 and standard deviation 1, from its square.
      image: as of `gaussian_log_prob`, like the rest.
      mean: of the values.
      scale: their standard deviations.
      targets: bool, the pixels that count.

    Returns:
      float32 (...): the leading axes of `mean`.
    """
    chex.assert_equal_shape([mean, scale])
    chex.assert_shape(mean, (..., *image.shape))
    chex.assert_shape(targets, (*image.shape[:-1], 1))
    chex.assert_type(targets, bool)
    image, mean, scale = (jnp.asarray(x, jnp.float32) for x in (image, mean, scale))
    leading = (1,) * (mean.ndim - image.ndim)
    image, targets = image.reshape(leading + image.shape), targets.reshape(leading + targets.shape)
    log_prob = log_density(jnp.square((image - mean) / scale)) - jnp.log(scale)
    return jnp.sum(jnp.where(targets, log_prob, 0.0), axis=(-3, -2, -1))


def gaussian_kl(mean_q: jax.Array, scale_q: jax.Array, mean_p: jax.Array, scale_p: jax.Array) -> jax.Array:
    """KL(q || p) of diagonal Gaussians, per dimension: log(sp/sq) + (sq^2 + (mq - mp)^2) / (2 sp^2) - 1/2.

    Args:
      mean_q: float (B, Z), like the three others.
      scale_q: positive standard deviation.
      mean_p: mean of the second distribution.
      scale_p: its positive standard deviation.

    Returns:
      float32 (B, Z), at least 0 up to rounding; sum over the last axis for the divergence.
    """
    chex.assert_equal_shape([mean_q, scale_q, mean_p, scale_p])
    mean_q, scale_q, mean_p, scale_p = (x.astype(jnp.float32) for x in (mean_q, scale_q, mean_p, scale_p))
    # Not ratio - 1 - log(ratio): trained divergences of 1e-6 would drown in the rounding of 1.
    excess = (scale_q - scale_p) * (scale_q + scale_p) / jnp.square(scale_p)  # sq^2 / sp^2 - 1
    distance = jnp.square((mean_q - mean_p) / scale_p)
    return 0.5 * (distance + (excess - jnp.log1p(excess)))


def elbo(log_prob: jax.Array, kl: jax.Array, *, kl_weight: float = 1.0) -> jax.Array:
    """The evidence lower bound E_q[log p] - kl_weight * KL, per image.

    Args:
      log_prob: (B,), mean over the latent samples.
      kl: (B,).
      kl_weight: 1 gives the bound.

    Returns:
      (B,).
    """
    chex.assert_rank([log_prob, kl], 1)
    chex.assert_equal_shape([log_prob, kl])
    return log_prob - kl_weight * kl


def importance_weighted_bound(log_weights: jax.Array) -> jax.Array:
    """The bound log 1/K sum_k exp(log_weights_k) (Burda et al., 2016).

    With z_k drawn from the conditional prior q(z | context), the weights are the joint likelihoods
    log p(y_target | z_k).

    Args:
      log_weights: (K, B).

    Returns:
      (B,).
    """
    chex.assert_rank(log_weights, 2)
    return jax.nn.logsumexp(log_weights, axis=0) - math.log(log_weights.shape[0])
