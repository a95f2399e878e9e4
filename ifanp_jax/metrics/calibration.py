"""How honest the predicted uncertainty is: PIT, coverage, CRPS and rank correlation, per image: (B,).

The predictive distribution of a value is a mixture of S components with equal weights, one per sample of the
latent variable: normals, or Student's t with 4 degrees of freedom, given by their standard deviation. All are
over the selected pixels (as a rule the unobserved ones) and all channels.
"""

import math

import chex
import jax
import jax.numpy as jnp

LEVELS = tuple(level / 20 for level in range(1, 20))  # 5 %, 10 %, ..., 95 % of the reliability picture


def probability_integral_transform(
    samples: jax.Array, scale: jax.Array, image: jax.Array, *, distribution: str = "normal"
) -> jax.Array:
    """Values u = F(y), F the mixture's distribution function; uniform on [0, 1] where the model is right.

    Args:
      samples: float32 (S, B, H, W, C), means of the components.
      scale: float32, like `samples`, positive standard deviations.
      image: float32 (B, H, W, C), the truth.
      distribution: of a component, "normal" or "student_t".

    Returns:
      float32 (B, H, W, C) in [0, 1].
    """
    _check_mixture(samples, scale, image)
    return _cdf((image[None] - samples) / scale, distribution).mean(axis=0)


def coverage(probabilities: jax.Array, targets: jax.Array, levels: tuple[float, ...]) -> jax.Array:
    """Share of the true values inside the central interval of each level; equal to the level where right.

    Args:
      probabilities: float32 (B, H, W, C), from `probability_integral_transform`.
      targets: bool (B, H, W, 1), the pixels that count.
      levels: L nominal probabilities in (0, 1).

    Returns:
      float32 (B, L); 0 for an image without target pixels.
    """
    chex.assert_rank(probabilities, 4)
    chex.assert_type(probabilities, float)
    _check_targets(targets, probabilities)
    is_inside = jnp.abs(probabilities - 0.5)[..., None] <= jnp.asarray(levels)[None, None, None, None, :] / 2
    return _target_mean(is_inside, targets[..., None])


def crps(
    samples: jax.Array,
    scale: jax.Array,
    image: jax.Array,
    targets: jax.Array,
    *,
    distribution: str = "normal",
) -> jax.Array:
    """Continuous ranked probability score, the mean over target values; smaller is better.

    E |X - y| - 1/2 E |X - X'|. For a mixture of normals both are closed forms (Grimit et al., 2006): A(m,
    s^2) = 2 s phi(m / s) + m (2 Phi(m / s) - 1) is E |X| for X ~ Normal(m, s^2). For Student's t the second
    is the integral of F (1 - F), by 81 nodes. With one sample and sigma -> 0 it is the absolute error.

    Args:
      samples: float32 (S, B, H, W, C), means of the components.
      scale: float32, like `samples`, positive standard deviations.
      image: float32 (B, H, W, C), the truth.
      targets: bool (B, H, W, 1), the pixels that count.
      distribution: of a component, "normal" or "student_t".

    Returns:
      float32 (B,), in intensities; 0 for an image without target pixels.
    """
    _check_mixture(samples, scale, image)
    _check_targets(targets, image)
    half_between = _half_distance_of_normals if distribution == "normal" else _half_distance_by_nodes
    to_truth = _expected_distance(image[None] - samples, scale, distribution).mean(axis=0)
    return _target_mean((to_truth - half_between(samples, scale))[..., None], targets[..., None])[:, 0]


def _half_distance_of_normals(samples, scale):
    """1/2 E |X - X'| of a mixture of normals, (B, H, W, C)."""

    def to_others(_, one):  # one sample against all: S^2 maps at once would not fit
        mean, deviation = one
        spread = jnp.sqrt(jnp.square(deviation)[None] + jnp.square(scale))
        return None, _expected_distance(mean[None] - samples, spread, "normal").mean(axis=0)

    _, between = jax.lax.scan(to_others, None, (samples, scale))
    return 0.5 * between.mean(axis=0)


def _half_distance_by_nodes(samples, scale):
    """1/2 E |X - X'| = integral of F (1 - F) of a mixture of t, (B, H, W, C)."""
    center = samples.mean(axis=0)
    deviation = jnp.sqrt(samples.var(axis=0) + jnp.square(scale).mean(axis=0))
    # Dense in the middle, as far as 40 standard deviations: x = center + deviation sinh(node).
    nodes, step = jnp.linspace(-math.asinh(40), math.asinh(40), 81, retstep=True)

    def add(total, node):
        x = center + deviation * jnp.sinh(node)
        f = _cdf((x[None] - samples) / scale, "student_t").mean(axis=0)
        return total + f * (1 - f) * jnp.cosh(node), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(center), nodes)
    return total * deviation * step


def rank_correlation(uncertainty: jax.Array, error: jax.Array, targets: jax.Array) -> jax.Array:
    """Spearman's rank correlation of uncertainty and absolute error over target values.

    Equal values share the mean of their ranks.

    Args:
      uncertainty: float (B, H, W, C), such as a standard deviation.
      error: float (B, H, W, C), absolute errors.
      targets: bool (B, H, W, 1), the pixels that count.

    Returns:
      float32 (B,) in [-1, 1]; 0 where all target values of either are equal, or there are none.
    """
    chex.assert_rank([uncertainty, error], 4)
    chex.assert_type([uncertainty, error], float)
    chex.assert_equal_shape([uncertainty, error])
    _check_targets(targets, error)
    b = len(error)
    counted = jnp.broadcast_to(targets, error.shape).reshape(b, -1)
    first, second = (_centered_ranks(x.reshape(b, -1), counted) for x in (uncertainty, error))
    norm = jnp.sqrt(jnp.square(first).mean(axis=1) * jnp.square(second).mean(axis=1))
    return jnp.where(norm > 0, (first * second).mean(axis=1) / jnp.where(norm > 0, norm, 1), 0)


def _centered_ranks(values, counted):
    """Ranks among the counted values of a row (B, N), less their mean; 0 for the others."""
    values = jnp.where(counted, values, jnp.inf)  # the others come last
    ordered = jnp.sort(values, axis=1)
    below, upto = (
        jax.vmap(lambda row, x, side=side: jnp.searchsorted(row, x, side=side))(ordered, values)
        for side in ("left", "right")
    )
    ranks = (below + upto).astype(jnp.float32) / 2
    return jnp.where(counted, ranks - counted.sum(axis=1, keepdims=True) / 2, 0)


def _check_mixture(samples, scale, image):
    chex.assert_rank([samples, image], [5, 4])
    chex.assert_type([samples, scale, image], float)
    chex.assert_equal_shape([samples, scale])
    chex.assert_shape(samples, (..., *image.shape))


def _check_targets(targets, image):
    chex.assert_shape(targets, (*image.shape[:3], 1))
    chex.assert_type(targets, bool)


def _cdf(z, distribution):
    """Distribution function of mean 0 and standard deviation 1."""
    if distribution == "normal":
        return jax.scipy.stats.norm.cdf(z)
    # Of t = sqrt(2) z with 4 degrees of freedom: 1/2 + 3/8 u (1 - u^2 / 12), u = t / sqrt(1 + t^2 / 4).
    u = math.sqrt(2) * z / jnp.sqrt(1 + jnp.square(z) / 2)
    return 0.5 + 0.375 * u * (1 - jnp.square(u) / 12)


def _expected_distance(mean, scale, distribution):
    """E |X| for X of that mean and standard deviation."""
    ratio = mean / scale
    if distribution == "normal":
        center = 2 * scale * jax.scipy.stats.norm.pdf(ratio)
    else:  # 2 s f(t) (v + t^2) / (v - 1) of the t with 4 degrees of freedom, s = scale / sqrt(2)
        center = scale / math.sqrt(2) * (1 + jnp.square(ratio) / 2) ** -1.5
    return center + mean * (2 * _cdf(ratio, distribution) - 1)


def _target_mean(values, targets):
    """Mean of (B, H, W, C, L) over the target pixels and channels: (B, L)."""
    total = jnp.sum(jnp.where(targets, values, 0), axis=(1, 2, 3), dtype=jnp.float32)
    count = targets.sum(axis=(1, 2, 3)) * values.shape[3]
    return total / jnp.maximum(count, 1)
