"""Student's t with 4 degrees of freedom, given by its standard deviation or covariance.

Errors of completed pictures have heavier tails than a Normal of the predicted scale: many are small, a few at
edges are large. Divided by the predicted scale they follow one distribution in every context, near to this.
"""

import math
import statistics

import jax
import jax.numpy as jnp

from ifanp_jax.objectives.elbo import independent_log_prob

DEGREES_OF_FREEDOM = 4
# Square root of its shape matrix, in standard deviations.
SHAPE_SCALE = math.sqrt((DEGREES_OF_FREEDOM - 2) / DEGREES_OF_FREEDOM)
QUARTILE = 0.740697  # of the t of one dimension and unit shape matrix
# Standard deviation of the Normal with the t's quartiles, in standard deviations of the t: its core.
CORE_SCALE = SHAPE_SCALE * QUARTILE / statistics.NormalDist().inv_cdf(0.75)


def log_density(square: jax.Array, dimensions: int) -> jax.Array:
    """Log-density of the t of C dimensions with unit covariance.

    log Gamma((v + C) / 2) - log Gamma(v / 2) - C/2 log((v - 2) pi) - (v + C)/2 log(1 + |x|^2 / (v - 2)).

    Args:
      square: float (...), |x|^2.
      dimensions: C.

    Returns:
      Like `square`, in nats.
    """
    v, c = DEGREES_OF_FREEDOM, dimensions
    constant = math.lgamma((v + c) / 2) - math.lgamma(v / 2) - c / 2 * math.log((v - 2) * math.pi)
    return constant - (v + c) / 2 * jnp.log1p(square / (v - 2))


def student_t_log_prob(image: jax.Array, mean: jax.Array, scale: jax.Array, targets: jax.Array) -> jax.Array:
    """Sum over target pixels and channels of the log-density of independent values.

    Args:
      image: float (..., H, W, C).
      mean: float, the shape of `image`, or that with leading sample axes.
      scale: float, like `mean`, positive standard deviations.
      targets: bool (..., H, W, 1), the pixels that count.

    Returns:
      float32 (...): the leading axes of `mean`, in nats.
    """
    return independent_log_prob(lambda square: log_density(square, 1), image, mean, scale, targets)
