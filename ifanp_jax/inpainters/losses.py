"""Losses of adversarial inpainters, per image: (B,), to be minimised.

h = ~mask is the hole, x the truth, x' an output, x~ the composite, D a critic; images are in [-1, 1].
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax.nn import relu, softplus
from jax.numpy import square

PENALTY_WEIGHT = 10.0
# By kind, what a critic minimises by its scores D(x) and D(x~), and a generator by D(x~).
_LOSSES = {
    "wgan_gp": (lambda real, fake: fake - real, lambda fake: -fake),
    "dcgan": (lambda real, fake: softplus(-real) + softplus(fake), lambda fake: softplus(-fake)),
    "lsgan": (lambda real, fake: square(real - 1) + square(fake), lambda fake: square(fake - 1)),
    "hinge": (lambda real, fake: relu(1 - real) + relu(1 + fake), lambda fake: -fake),
    "none": (lambda real, fake: jnp.zeros_like(fake), jnp.zeros_like),
}
KINDS = tuple(_LOSSES)


def critic_loss(kind: str, real: jax.Array, fake: jax.Array) -> jax.Array:
    """A critic's loss, without the gradient penalty, of its scores (B,) of true images and of composites."""
    chex.assert_rank([real, fake], 1)
    chex.assert_equal_shape([real, fake])
    return _LOSSES[kind][0](real.astype(jnp.float32), fake.astype(jnp.float32))


def generator_loss(kind: str, fake: jax.Array) -> jax.Array:
    """A generator's loss against one critic, of its scores (B,) of composites."""
    chex.assert_rank(fake, 1)
    return _LOSSES[kind][1](fake.astype(jnp.float32))


def gradient_penalty_loss(
    key: jax.Array,
    critic: Callable[[jax.Array], jax.Array],
    real: jax.Array,
    fake: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """The masked penalty of WGAN-GP: 10 (|h * grad D(x^)| - 1)^2 at x^ = (1 - t) x + t x~.

    `key` draws t uniformly in [0, 1], one per image. The critic maps images (B, H, W, C) to scores (B,), each
    from its own image alone. An image without a hole, whose gradient could never have length 1, costs 0.
    """
    chex.assert_rank([real, fake, mask], 4)
    chex.assert_type(mask, bool)
    chex.assert_equal_shape([real, fake])
    t = jax.random.uniform(key, (real.shape[0], 1, 1, 1))
    between = (1 - t) * real + t * fake
    gradient = jax.grad(lambda x: jnp.sum(critic(x)))(between)
    square = jnp.sum(jnp.square(jnp.where(mask, 0, gradient.astype(jnp.float32))), axis=(1, 2, 3))
    # The root's slope at 0 is infinite.
    length = jnp.sqrt(square + 1e-12)
    has_hole = jnp.any(~mask, axis=(1, 2, 3))
    return jnp.where(has_hole, PENALTY_WEIGHT * jnp.square(length - 1), 0)


def hole_distance(mask: jax.Array) -> jax.Array:
    """Chessboard distance in pixels to the nearest observed one, by repeated 3x3 erosion of the hole.

    Pixels outside the image are not observed; the distance is at most half the longer side.
    """
    chex.assert_rank(mask, 4)
    chex.assert_type(mask, bool)
    _, h, w, _ = mask.shape

    def erode(_, carry):
        hole, distance = carry
        distance += hole
        hole = jnp.pad(hole, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=True)
        hole = hole[:, :-2] & hole[:, 1:-1] & hole[:, 2:]
        hole = hole[:, :, :-2] & hole[:, :, 1:-1] & hole[:, :, 2:]
        return hole, distance

    start = (~mask, jnp.zeros(mask.shape, jnp.float32))
    return jax.lax.fori_loop(0, max(h, w) // 2, erode, start)[1]


def weighted_l1_loss(
    prediction: jax.Array, image: jax.Array, where: jax.Array, weight: jax.Array
) -> jax.Array:
    """Mean of |x - x'| times `weight` (B, H, W, 1) where `where` holds; 0 where it holds nowhere."""
    chex.assert_rank([prediction, image, where, weight], 4)
    chex.assert_type(where, bool)
    chex.assert_equal_shape([prediction, image])
    total = jnp.sum(jnp.where(where, jnp.abs(image - prediction) * weight, 0), axis=(1, 2, 3))
    count = jnp.sum(where, axis=(1, 2, 3), dtype=jnp.float32)
    return total / (jnp.maximum(count, 1) * image.shape[-1])


def ringed_mse_loss(
    prediction: jax.Array, image: jax.Array, mask: jax.Array, *, ring: int, ring_weight: float
) -> jax.Array:
    """Mean squared error over the hole and the known pixels up to `ring` (chessboard distance) beside it.

    Errors of the ring count `ring_weight` times; the mean is over pixels, not over weights. It is 0 for an
    image without a hole.
    """
    chex.assert_rank([prediction, image, mask], 4)
    chex.assert_type(mask, bool)
    chex.assert_equal_shape([prediction, image])
    hole, side = (~mask).astype(jnp.float32), 2 * ring + 1
    region = jax.lax.reduce_window(hole, 0.0, jax.lax.max, (1, side, side, 1), (1, 1, 1, 1), "SAME")
    weight = hole + ring_weight * (region - hole)
    error = jnp.square(image - prediction) * weight
    count = jnp.sum(region, axis=(1, 2, 3)) * image.shape[-1]
    return jnp.sum(error, axis=(1, 2, 3)) / jnp.maximum(count, 1)
