"""GCA and LPA against other implementations of the same; forward and backward, float32."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks import timing
from benchmarks.inputs import OBSERVED_SHARE, Case
from ifanp_jax.modules import gca, lpa


def measure_gca(case: Case) -> dict:
    """Attention with one similarity for all images against two implementations with one per image.

    The ratios are to the faster and to the smaller alternative.
    """
    b, side, d = case.effort.comparison_shape
    keys = jax.random.split(jax.random.key(0), 4)
    theta = 0.3 * jax.random.normal(keys[0], (side * side, d))
    values, cotangent = jax.random.normal(keys[1], (2, b, side * side, d))
    observed = jax.random.bernoulli(keys[2], OBSERVED_SHARE, (b, side * side))
    alternatives = {
        "per-image masked softmax": per_image_softmax,
        "jax.nn.dot_product_attention": dot_product_attention,
    }

    def measure(function):
        call = timing.with_gradient(lambda theta, values: function(theta, values, observed))
        return timing.measure(call, cotangent, theta, values, effort=case.effort)

    return {"name": "GCA"} | _describe(case) | _compare(measure, gca.attend, alternatives)


def measure_lpa(case: Case) -> dict:
    """LPA as a sum of shifted slices against a depthwise convolution."""
    b, side, d = case.effort.comparison_shape
    x, cotangent = jax.random.normal(jax.random.key(0), (2, b, side, side, d))
    weights = lpa.window_weights(jnp.ones(d))

    def measure(function):
        call = timing.with_gradient(lambda x: function(x, weights))
        return timing.measure(call, cotangent, x, effort=case.effort)

    alternatives = {"depthwise convolution": depthwise_convolution}
    return {"name": "LPA"} | _describe(case) | _compare(measure, lpa.pool, alternatives)


def _describe(case):
    b, side, d = case.effort.comparison_shape
    return {"shape": {"batch_size": b, "side": side, "width": d}, "dtype": "float32"}


def _compare(measure: Callable, ours: Callable, alternatives: dict[str, Callable]) -> dict:
    """Times and temporary memory of ours, and their ratios to the best alternative."""
    entry = measure(ours)
    entries = {name: measure(function) for name, function in alternatives.items()}
    return {
        **entry,
        "alternatives": entries,
        "time_ratio": min(e["milliseconds"] for e in entries.values()) / entry["milliseconds"],
        "memory_ratio": min(e["temporary_mib"] for e in entries.values()) / max(entry["temporary_mib"], 1e-6),
    }


def per_image_softmax(theta: jax.Array, values: jax.Array, observed: jax.Array) -> jax.Array:
    """The obvious attention: the shared logits masked for each image, then a softmax for each.

    Args:
      theta: float32 (N, K), inside the ball.
      values: (B, N, D).
      observed: bool (B, N), at least one each.

    Returns:
      (B, N, D).
    """
    logits = jnp.matmul(theta, theta.T, precision=jax.lax.Precision.HIGHEST)
    weights = jax.nn.softmax(jnp.where(observed[:, None, :], logits[None], -jnp.inf), axis=-1)
    return weights @ values


def dot_product_attention(theta: jax.Array, values: jax.Array, observed: jax.Array) -> jax.Array:
    """The same by `jax.nn.dot_product_attention`, which takes queries and keys per image and wants K = D.

    Args:
      theta: float32 (N, D), inside the ball.
      values: (B, N, D).
      observed: bool (B, N), at least one each.

    Returns:
      (B, N, D).
    """
    query = jnp.broadcast_to(theta[None, :, None], (len(values), len(theta), 1, theta.shape[1]))
    options = {"mask": observed[:, None, None, :], "scale": 1.0}
    return jax.nn.dot_product_attention(query, query, values[:, :, None], **options)[:, :, 0]


def depthwise_convolution(x: jax.Array, weights: jax.Array) -> jax.Array:
    """`lpa.pool` as a convolution with one group per channel: (B, H, W, D), (3, 3, D) -> (B, H, W, D)."""
    return jax.lax.conv_general_dilated(
        x,
        weights[:, :, None, :],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )
