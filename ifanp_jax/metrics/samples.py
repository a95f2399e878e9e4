"""How good and how sharp a set of different answers is, per image: (B,)."""

import chex
import jax
import jax.numpy as jnp


def energy_score(samples: jax.Array, image: jax.Array, targets: jax.Array) -> jax.Array:
    """Energy score of samples of a whole picture; smaller is better (Gneiting and Raftery, 2007).

    mean_s |x_s - y| - 1/2 mean_{s != t} |x_s - x_t|, unbiased in the number of samples; |.| is the root mean
    square over the target values. It is the CRPS of whole pictures: it also counts whether the values of one
    sample fit each other. With one sample it is the distance alone.

    Args:
      samples: float (S, B, H, W, C) in [0, 1].
      image: float (B, H, W, C), the truth.
      targets: bool (B, H, W, 1), the pixels that count.

    Returns:
      float32 (B,), in intensities; 0 for an image without target pixels.
    """
    chex.assert_rank([samples, image], [5, 4])
    chex.assert_type([samples, image], float)
    chex.assert_shape(samples, (..., *image.shape))
    _check_mask(targets, image)
    s = samples.shape[0]
    count = jnp.maximum(targets.sum(axis=(1, 2, 3)) * image.shape[-1], 1)

    def distance(x, y):  # (S, B)
        square = jnp.where(targets[None], jnp.square(x - y), 0).astype(jnp.float32)
        return jnp.sqrt(square.sum(axis=(2, 3, 4)) / count[None])

    def to_others(_, one):  # one sample against all: S^2 pictures at once would not fit
        return None, distance(one[None], samples).sum(axis=0)

    _, between = jax.lax.scan(to_others, None, samples)
    return distance(samples, image[None]).mean(axis=0) - between.sum(axis=0) / (2 * max(s * (s - 1), 1))


def gradient_energy(image: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean squared difference of neighbours in a row or column of which at least one is a target pixel.

    A sample is as sharp as the truth where the two have the same energy; noise has more, a blurred picture
    less.

    Args:
      image: float (B, H, W, C).
      targets: bool (B, H, W, 1), the pixels that count.

    Returns:
      float32 (B,), in squared intensities; 0 for an image without such neighbours.
    """
    chex.assert_rank(image, 4)
    chex.assert_type(image, float)
    _check_mask(targets, image)
    total = count = 0.0
    for axis in (1, 2):
        counted = _neighbours(jnp.logical_or, targets, axis)
        square = jnp.square(_neighbours(jnp.subtract, image, axis))
        total += jnp.where(counted, square, 0).sum(axis=(1, 2, 3), dtype=jnp.float32)
        count += counted.sum(axis=(1, 2, 3)) * image.shape[-1]
    return total / jnp.maximum(count, 1)


def _neighbours(function, x, axis):
    """`function` of each pixel and the one before it along an axis."""
    n = x.shape[axis]
    return function(jax.lax.slice_in_dim(x, 1, n, axis=axis), jax.lax.slice_in_dim(x, 0, n - 1, axis=axis))


def _check_mask(mask, image):
    chex.assert_shape(mask, (*image.shape[:3], 1))
    chex.assert_type(mask, bool)
