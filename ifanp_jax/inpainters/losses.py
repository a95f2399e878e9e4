"""Losses of adversarial inpainters, per image: (B,), to be minimised.

h = ~mask is the hole, x the truth, x' an output, x~ the composite, D a critic; images are in [-1, 1].
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

KINDS = ("wgan_gp", "dcgan", "lsgan", "hinge", "none")
PENALTY_WEIGHT = 10.0
COARSE_WEIGHT = 1.2  # of DeepFill's coarse stage beside the refined one
RECONSTRUCTION_WEIGHT = 1.2  # of DeepFill's L1 and AE


def critic_loss(kind: str, real: jax.Array, fake: jax.Array) -> jax.Array:
    """A critic's loss, without the gradient penalty.

    wgan_gp D(x~) - D(x); dcgan softplus(-D(x)) + softplus(D(x~)); lsgan (D(x) - 1)^2 + D(x~)^2; hinge
    relu(1 - D(x)) + relu(1 + D(x~)); none 0.

    Args:
      kind: one of `KINDS`.
      real: float (B,), scores of true images.
      fake: float (B,), scores of composites.

    Returns:
      float32 (B,).
    """
    chex.assert_rank([real, fake], 1)
    chex.assert_equal_shape([real, fake])
    real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
    match kind:
        case "wgan_gp":
            return fake - real
        case "dcgan":
            return jax.nn.softplus(-real) + jax.nn.softplus(fake)
        case "lsgan":
            return jnp.square(real - 1) + jnp.square(fake)
        case "hinge":
            return jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)
        case "none":
            return jnp.zeros_like(fake)
    raise ValueError(f"kind is {kind!r}; choose one of {KINDS}.")


def generator_loss(kind: str, fake: jax.Array) -> jax.Array:
    """A generator's loss against one critic.

    wgan_gp and hinge -D(x~); dcgan softplus(-D(x~)); lsgan (D(x~) - 1)^2; none 0.
    """
    chex.assert_rank(fake, 1)
    fake = fake.astype(jnp.float32)
    match kind:
        case "wgan_gp" | "hinge":
            return -fake
        case "dcgan":
            return jax.nn.softplus(-fake)
        case "lsgan":
            return jnp.square(fake - 1)
        case "none":
            return jnp.zeros_like(fake)
    raise ValueError(f"kind is {kind!r}; choose one of {KINDS}.")


def gradient_penalty_loss(
    key: jax.Array,
    critic: Callable[[jax.Array], jax.Array],
    real: jax.Array,
    fake: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """The masked penalty of WGAN-GP: 10 (|h * grad D(x^)| - 1)^2 at x^ = (1 - t) x + t x~.

    Args:
      key: PRNG key; draws t uniformly in [0, 1], one per image.
      critic: maps images (B, H, W, C) to scores (B,), each from its own image alone.
      real: float (B, H, W, C), x.
      fake: float (B, H, W, C), x~.
      mask: bool (B, H, W, 1), True = observed.

    Returns:
      float32 (B,); 0 for an image without a hole, whose gradient could never have length 1.
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
    """Chessboard distance to the nearest observed pixel, by repeated 3x3 erosion of the hole.

    Args:
      mask: bool (B, H, W, 1), True = observed; pixels outside the image are not.

    Returns:
      float32 (B, H, W, 1) in pixels, 0 where observed, at most half the longer side.
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


def two_stage_l1_loss(
    stages: tuple[jax.Array, jax.Array],
    image: jax.Array,
    where: jax.Array,
    weight: jax.Array,
    *,
    refined_weight: float = 1.0,
) -> jax.Array:
    """DeepFill's 1.2 [1.2 m(|x - x1| w) + refined_weight m(|x - x2| w)], m the mean where `where` holds.

    Args:
      stages: float (B, H, W, C) each, the coarse x1 and the refined x2.
      image: float (B, H, W, C), x.
      where: bool (B, H, W, 1), the hole for L1, the observed pixels for AE.
      weight: float32 (B, H, W, 1), w.
      refined_weight: of the refined stage's term.

    Returns:
      float32 (B,); 0 where no pixel counts.
    """
    chex.assert_rank([*stages, image, where, weight], 4)
    chex.assert_type(where, bool)
    chex.assert_equal_shape([*stages, image])
    coarse, refined = (_weighted_l1(x, image, where, weight) for x in stages)
    return RECONSTRUCTION_WEIGHT * (COARSE_WEIGHT * coarse + refined_weight * refined)


def _weighted_l1(prediction, image, where, weight):
    error = jnp.abs(image.astype(jnp.float32) - prediction.astype(jnp.float32)) * weight
    total = jnp.sum(jnp.where(where, error, 0), axis=(1, 2, 3))
    count = jnp.sum(where, axis=(1, 2, 3), dtype=jnp.float32)
    return total / (jnp.maximum(count, 1) * image.shape[-1])


def ringed_mse_loss(
    prediction: jax.Array, image: jax.Array, mask: jax.Array, *, ring: int, ring_weight: float
) -> jax.Array:
    """Mean squared error over the hole and the known pixels beside it, which count `ring_weight` times.

    Args:
      prediction: float (B, H, W, C), x'.
      image: float (B, H, W, C), x.
      mask: bool (B, H, W, 1), True = observed.
      ring: chessboard distance up to which known pixels count; 0 = none.
      ring_weight: of their squared errors; the mean is over pixels, not over weights.

    Returns:
      float32 (B,); 0 for an image without a hole.
    """
    chex.assert_rank([prediction, image, mask], 4)
    chex.assert_type(mask, bool)
    chex.assert_equal_shape([prediction, image])
    hole = (~mask).astype(jnp.float32)
    side = 2 * ring + 1
    region = jax.lax.reduce_window(hole, 0.0, jax.lax.max, (1, side, side, 1), (1, 1, 1, 1), "SAME")
    weight = hole + ring_weight * (region - hole)
    error = jnp.square(image.astype(jnp.float32) - prediction.astype(jnp.float32)) * weight
    count = jnp.sum(region, axis=(1, 2, 3)) * image.shape[-1]
    return jnp.sum(error, axis=(1, 2, 3)) / jnp.maximum(count, 1)
