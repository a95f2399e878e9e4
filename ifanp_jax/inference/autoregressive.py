"""Sampling and likelihood by autoregressive rounds.

A neural process can be given its own answers as context. With R rounds, a random order of an image's n
unobserved pixels is cut where round(n (r / R)^1.5) of them are known, r = 1 ... R. Round r draws its pixels
from Normal(mean_i, Sigma_i) given the context and all earlier rounds, each pixel on its own, and adds them to
the context. So what one round cannot agree on, the next one sees. R = 1 is the usual prediction. Where the
model's distribution is a Student's t, the Normal is its core: the one with its quartiles, without its tails.

The joint density of the same factorisation is the product of the rounds' densities. It depends on the order,
so it is stated with R and the key.

A round is one compiled call of static shapes for any R; the loop over rounds is the host's.
"""

import functools

import chex
import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError
from ifanp_jax.models import heads
from ifanp_jax.models.base import Completion, ImageModel
from ifanp_jax.objectives import student_t

DEFAULT_ROUNDS = 16
SHARE_POWER = 1.5  # few pixels in the first rounds, where they decide most


def default_rounds(model: ImageModel) -> int:
    """How many rounds a model's samples take where nobody says so."""
    return DEFAULT_ROUNDS if model.has_samples_by_rounds else 1


def complete_by_rounds(
    key: jax.Array,
    model: ImageModel,
    variables,
    image: jax.Array,
    mask: jax.Array,
    *,
    num_samples: int,
    rounds: int,
    temperature: float = 1.0,
) -> jax.Array:
    """Completes each image `num_samples` times; the last round takes the mean.

    Order and noise are shared among the images, so that an answer depends neither on the rest of the batch
    nor on the image's place in it. What is drawn is clipped to [0, 1] before it becomes context.

    Args:
      key: of order, noise and the model's own draws.
      image: float (B, H, W, C) in [0, 1]; unobserved pixels are never read.
      mask: bool (B, H, W, 1), True = observed.
      temperature: factor of the noise's standard deviation, times the model's own; 0 takes the mean in every
        round.

    Returns:
      float32 (S, B, H, W, C), S = `num_samples`; observed pixels as they are in `image`.
    """
    _check(image, mask, rounds)
    b, h, w, c = image.shape
    order_key, round_key = jax.random.split(key)
    rank = jnp.stack([rank_unobserved(k, mask) for k in jax.random.split(order_key, num_samples)], axis=1)
    # An image's samples lie side by side, so that all stay on the device that holds the image.
    rank = rank.reshape(b * num_samples, h, w, 1)
    start = jnp.repeat(jnp.where(mask, image, 0.0).astype(jnp.float32), num_samples, axis=0)
    hidden = jnp.repeat(jnp.sum(~mask, axis=(1, 2, 3)), num_samples)
    # Each round answers the pixels that it reaches, from what is known by then.
    known, answer = jnp.repeat(mask, num_samples, axis=0), start
    for r in range(rounds):
        reached = rank < _threshold(hidden, r, rounds)
        options = {
            "reached": reached,
            "noise_scale": jnp.float32(find_noise_scale(model, r, rounds, temperature)),
            "num_samples": num_samples,
        }
        answer = _draw(jax.random.fold_in(round_key, r), model, variables, answer, known, **options)
        known = reached
    return jnp.swapaxes(answer.reshape(b, num_samples, h, w, c), 0, 1)


def log_probs_by_rounds(
    key: jax.Array,
    model: ImageModel,
    variables,
    image: jax.Array,
    mask: jax.Array,
    *,
    rounds: int,
    targets: jax.Array | None = None,
    floors: tuple[float, ...] = (0.0,),
) -> jax.Array:
    """Joint log-density of unobserved pixels, sum_r sum_{i in round r} log p(y_i | context, rounds < r).

    Args:
      key: PRNG key of the order, shared among the images, and of the model's own draws. With a latent
        variable each round draws one z given all that is known to it, so the value is an estimate.
      image: float (B, H, W, C) in [0, 1], the full image.
      mask: bool (B, H, W, 1), True = observed.
      targets: bool (B, H, W, 1), the pixels that count, None = all; other unobserved ones stay so.
      floors: of the scale, see `heads.raise_floor`.

    Returns:
      float32 (F, B), in nats, for each floor; 0 for an image without unobserved pixels.
    """
    _check(image, mask, rounds)
    order_key, round_key = jax.random.split(key)
    targets = ~mask if targets is None else targets & ~mask
    rank = rank_unobserved(order_key, ~targets)
    hidden, known = jnp.sum(targets, axis=(1, 2, 3)), mask
    total = jnp.zeros((len(floors), image.shape[0]))
    for r in range(rounds):
        reached = mask | (targets & (rank < _threshold(hidden, r, rounds)))
        total += _log_probs(
            jax.random.fold_in(round_key, r), model, variables, image, known, reached=reached, floors=floors
        )
        known = reached
    return total


def rank_unobserved(key: jax.Array, mask: jax.Array) -> jax.Array:
    """Places of the unobserved pixels in one random order of the grid; int32 (B, H, W, 1), -1 = observed."""
    b, h, w, _ = mask.shape
    order = jax.random.permutation(key, h * w)
    unobserved = ~mask.reshape(b, h * w)
    place = jnp.cumsum(unobserved[:, order], axis=1, dtype=jnp.int32) - 1
    rank = jnp.zeros((b, h * w), jnp.int32).at[:, order].set(place)
    return jnp.where(unobserved, rank, -1).reshape(mask.shape)


def share_known(r: int, rounds: int) -> float:
    """Share of the unobserved pixels that are known after round r = 0 ... R - 1."""
    return ((r + 1) / rounds) ** SHARE_POWER


def find_noise_scale(model: ImageModel, r: int, rounds: int, temperature: float) -> float:
    """Factor of the noise in round r < R: the model's own times `temperature`; 0 in the last one."""
    return 0.0 if r == rounds - 1 else temperature * model.temperature


def _threshold(hidden, r, rounds):
    """How many unobserved pixels are known after round r; int32 (B, 1, 1, 1)."""
    return jnp.round(hidden * share_known(r, rounds)).astype(jnp.int32)[:, None, None, None]


def _check(image, mask, rounds):
    chex.assert_rank([image, mask], 4)
    chex.assert_type([image, mask], [float, bool])
    if rounds < 1:
        raise UserError(f"rounds is {rounds}; give at least 1.")


def _predict(key, model, variables, image, mask) -> Completion:
    """One answer of the model, with what it says about its error."""
    out = model.apply(variables, image, mask, num_samples=1, method="complete", rngs={"sample": key})
    if out.scale is None:
        raise UserError(f"{type(model).__name__} has no scale to draw from; rounds need a likelihood.")
    return out


def color_noise(noise, answer: Completion):
    """Unit noise with the scale of an answer; of a t its core, as its outliers would mislead later rounds."""
    if answer.distribution == "student_t":
        noise = student_t.CORE_SCALE * noise
    return answer.scale * noise if answer.cholesky is None else (answer.cholesky @ noise[..., None])[..., 0]


@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def _draw(key, model, variables, image, known, *, reached, noise_scale, num_samples):
    """Fills the pixels that are `reached` but not `known`."""
    noise_key, model_key = jax.random.split(key)
    answer = jax.tree.map(lambda x: x[0], _predict(model_key, model, variables, image, known))
    b, h, w, c = image.shape
    noise = jax.random.normal(noise_key, (1, num_samples, h, w, c))
    noise = jnp.broadcast_to(noise, (b // num_samples, num_samples, h, w, c)).reshape(image.shape)
    drawn = jnp.clip(answer.samples + noise_scale * color_noise(noise, answer), 0.0, 1.0)
    return jnp.where(reached & ~known, drawn, image)


@functools.partial(jax.jit, static_argnames=("model", "floors"))
def _log_probs(key, model, variables, image, known, *, reached, floors):
    """Sums of the log-densities of the pixels that are `reached` but not `known`; float32 (F, B)."""
    out = _predict(key, model, variables, image, known)
    raised = [heads.raise_floor(out, floor) for floor in floors]
    return jnp.stack([heads.completion_log_prob(image, answer, reached & ~known)[0] for answer in raised])
