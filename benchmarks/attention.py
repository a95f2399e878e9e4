"""Contextual attention at 256x256 beside the formulation by convolutions; forward and backward, float32.

The published formulation makes each image's patches the kernels of two convolutions: one compares, one
pastes. Here it has the same details as `modules.contextual_attention`, so that both give the same.
"""

import jax
import jax.numpy as jnp

from benchmarks import timing
from benchmarks.inputs import Case
from ifanp_jax.inpainters.layers import contextual_attention

RATE = 2
SCALE = 10.0
TAPS = (-1, 0, 1)


def measure_attention(case: Case) -> dict:
    """Time and temporary memory of one image's attention, and their ratios to the convolutions'.

    At full effort the features are those of a picture of 256x256: 64x64 cells of 128 channels, a centre hole.
    """
    side, width = (2 * size for size in case.effort.comparison_shape[1:])
    keys = jax.random.split(jax.random.key(0))
    features = jax.random.normal(keys[0], (1, side, side, width))
    cotangent = jax.random.normal(keys[1], features.shape)
    hole = jnp.zeros((1, side, side, 1)).at[:, side // 4 : 3 * side // 4, side // 4 : 3 * side // 4].set(1)

    def measure(function):
        call = timing.with_gradient(lambda features: function(features, 1 - hole))
        return timing.measure(call, cotangent, features, effort=case.effort)

    entry, other = measure(ours), measure(per_image_convolutions)
    return {
        "name": "contextual attention",
        "shape": {"batch_size": 1, "side": side, "width": width},
        "dtype": "float32",
        **entry,
        "alternatives": {"convolutions with each image's patches": other},
        "time_ratio": other["milliseconds"] / entry["milliseconds"],
        "memory_ratio": other["temporary_mib"] / max(entry["temporary_mib"], 1e-6),
    }


def ours(features: jax.Array, known: jax.Array) -> jax.Array:
    """`contextual_attention.attend` without the offsets.

    Args:
      features: float32 (B, h, w, D), even sides.
      known: float32 (B, h, w, 1), known fraction of each cell.
    """
    return contextual_attention.attend(features, known, rate=RATE, scale=SCALE)[0]


def per_image_convolutions(features: jax.Array, known: jax.Array) -> jax.Array:
    """The same by convolutions, image by image; every image must have a wholly known patch.

    Args:
      features: float32 (B, h, w, D), even sides.
      known: float32 (B, h, w, 1), known fraction of each cell.
    """
    matched = known[:, ::RATE, ::RATE]
    for i, j in ((0, 1), (1, 0), (1, 1)):
        matched = jnp.minimum(matched, known[:, i::RATE, j::RATE])
    weights = contextual_attention.patch_weights(matched, "whole")
    return jnp.stack([_complete(x, weight) for x, weight in zip(features, weights, strict=True)])


def _complete(x, weight):
    """One image: (h, w, D) and (h / r, w / r)."""
    rows, columns = weight.shape
    small = x[::RATE, ::RATE]
    padded = jnp.pad(small, ((1, 1), (1, 1), (0, 0)))
    patches = jnp.stack(
        [jnp.stack([padded[i : i + rows, j : j + columns] for j in range(3)]) for i in range(3)]
    )  # (3, 3, rows, columns, D)
    norms = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(patches), axis=(0, 1, 4)), 1e-8))
    kernels = (patches / norms[None, None, :, :, None]).reshape(3, 3, rows * columns, -1)
    scores = _convolve(small, kernels.swapaxes(2, 3)) / norms[:, :, None]
    scores = _propagate(scores.reshape(rows, columns, rows, columns))
    is_valid = (weight > 0)[None, None]
    logits = jnp.where(is_valid, SCALE * scores, contextual_attention.EXCLUDED)
    attention = jnp.where(is_valid, jax.nn.softmax(logits, axis=(-2, -1)), 0)
    return _paste(attention.reshape(rows, columns, rows * columns), x)


def _convolve(x, kernels):
    return jax.lax.conv_general_dilated(
        x[None],
        kernels,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )[0]


def _propagate(scores):
    """Sums of three along the diagonals of rows, then of columns, zero outside."""
    for axis in (1, 0):
        size = scores.shape[axis]
        widths = [(1, 1) if index in (axis, axis + 2) else (0, 0) for index in range(4)]
        padded = jnp.pad(scores, widths)
        total = 0.0
        for tap in TAPS:
            part = jax.lax.slice_in_dim(padded, 1 + tap, 1 + tap + size, axis=axis)
            total += jax.lax.slice_in_dim(part, 1 + tap, 1 + tap + size, axis=axis + 2)
        scores = total
    return scores


def _paste(attention, x):
    """The transposed convolution of the weights with the patches of 2r x 2r, over the same of ones."""
    side, low = 2 * RATE, RATE // 2
    rows, columns, count = attention.shape
    counted = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
    padded = jnp.pad(counted, ((low, low), (low, low), (0, 0)))
    kernels = jnp.stack(
        [
            jnp.stack(
                [
                    padded[i : i + RATE * rows : RATE, j : j + RATE * columns : RATE].reshape(count, -1)
                    for j in range(side)
                ]
            )
            for i in range(side)
        ]
    )  # (2r, 2r, patches, D + 1)
    before = side - 1 - low
    out = jax.lax.conv_transpose(
        attention[None],
        kernels[::-1, ::-1],
        (RATE, RATE),
        [(before, RATE + side - 2 - before)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[0]
    return out[..., :-1] / jnp.maximum(out[..., -1:], contextual_attention.MIN_SHARE)
