"""Contextual attention as it was published: each image's patches are the kernels of two convolutions."""

import jax
import jax.numpy as jnp

RATE, SCALE = 2, 10.0
TAPS = (-1, 0, 1)


def by_convolutions(features, known):
    """One convolution compares patches, another pastes them, image by image.

    features float32 (B, h, w, D), even sides; known float32 (B, h, w, 1), the known fraction of each cell.
    Every image must have a wholly known patch.
    """
    rows = []
    for x, share in zip(features, known[..., 0], strict=True):
        h, w = share.shape
        whole = share.reshape(h // RATE, RATE, w // RATE, RATE).min(axis=(1, 3))
        rows.append(_complete(x, _is_valid(whole)))
    return jnp.stack(rows)


def _is_valid(whole):
    """Whether all nine cells around one, those inside the map, are wholly known: bool (h / r, w / r)."""
    lowest = jax.lax.reduce_window(whole, jnp.inf, jax.lax.min, (3, 3), (1, 1), "SAME")
    return lowest == 1


def _complete(x, is_valid):
    """One image: (h, w, D) and (h / r, w / r)."""
    rows, columns = is_valid.shape
    small = x[::RATE, ::RATE]
    padded = jnp.pad(small, ((1, 1), (1, 1), (0, 0)))
    patches = jnp.stack(
        [jnp.stack([padded[i : i + rows, j : j + columns] for j in range(3)]) for i in range(3)]
    )  # (3, 3, rows, columns, D)
    norms = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(patches), axis=(0, 1, 4)), 1e-8))
    kernels = (patches / norms[None, None, :, :, None]).reshape(3, 3, rows * columns, -1)
    scores = _convolve(small, kernels.swapaxes(2, 3)) / norms[:, :, None]
    scores = _propagate(scores.reshape(rows, columns, rows, columns))
    attention = jax.nn.softmax(jnp.where(is_valid, SCALE * scores, -jnp.inf), axis=(-2, -1))
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
    return out[..., :-1] / jnp.maximum(out[..., -1:], 1e-6)
