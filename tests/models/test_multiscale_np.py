import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.inference import predict
from ifanp_jax.models import multiscale_np

KEY = jax.random.key(5)
TINY = {"widths": (4, 6, 8), "down_blocks": (1, 1, 1), "up_blocks": (1, 1)}


def randomised(variables, key):
    """All parameters random, so that no kernel is zero."""
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(key, len(leaves))
    leaves = [x + 0.2 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, leaves)


def make(channels, size, **fields):
    model = multiscale_np.MultiscaleNP(channels=channels, **TINY, **fields)
    image = jax.random.uniform(jax.random.key(0), (2, *size, channels))
    mask = jax.random.bernoulli(jax.random.key(1), 0.4, (2, *size, 1))
    rngs = {"params": jax.random.key(2), "sample": jax.random.key(3)}
    variables = jax.jit(lambda rngs, x, m: model.init(rngs, x, m, train=True))(rngs, image, mask)
    return model, randomised(variables, jax.random.key(4)), image, mask


@functools.partial(jax.jit, static_argnums=0)
def complete(model, variables, image, mask):
    rngs = {"sample": jax.random.key(5)}
    return model.apply(variables, image, mask, num_samples=2, method="complete", rngs=rngs)


@functools.partial(jax.jit, static_argnums=0)
def terms_and_gradient(model, variables, image, mask):
    """Terms of a training step, and the gradients of reconstruction and log-likelihood."""

    def run(variables):
        rngs = {"sample": jax.random.key(5)}
        terms = model.apply(variables, image, mask, train=True, target="unobserved", rngs=rngs)
        return (terms.reconstruction.sum(), terms.log_prob.sum()), terms

    _, pullback, terms = jax.vjp(run, variables, has_aux=True)
    return terms, pullback((1.0, 0.0))[0]["params"], pullback((0.0, 1.0))[0]["params"]


def test_without_kernels_the_untrained_model_answers_with_the_masked_image():
    model, size = multiscale_np.MultiscaleNP(channels=1, length_scales=(), **TINY), (1, 8, 8, 1)
    image = jax.random.uniform(jax.random.key(0), size)
    mask = jax.random.bernoulli(jax.random.key(1), 0.4, size)
    out, variables = jax.jit(lambda k: model.init_with_output(k, image, mask, train=True))(jax.random.key(2))
    np.testing.assert_array_equal(out.prediction, jnp.where(mask, image, 0))
    assert "kernels" not in variables["params"]


def test_the_untrained_model_answers_with_the_sharpest_kernel():
    model = multiscale_np.MultiscaleNP(channels=1, **TINY)
    image = jax.random.uniform(jax.random.key(0), (1, 8, 8, 1))
    mask = jnp.zeros((1, 8, 8, 1), bool).at[0, 2, 3].set(True)
    out, _ = jax.jit(lambda k: model.init_with_output(k, image, mask, train=True))(jax.random.key(2))
    np.testing.assert_allclose(out.prediction, image[0, 2, 3, 0], rtol=1e-5)


@pytest.mark.parametrize("size", [(5, 7), (1, 3)])
def test_a_part_that_is_unobserved_padding_does_not_change_the_answer(size):
    h, w = size
    model, variables, image, mask = make(3, size)
    alone = complete(model, variables, image, mask)
    # The same picture inside a larger padding of the network, as sides of 16 would need.
    features, valid = multiscale_np.pad_to_multiple(image, 16)
    chex.assert_shape(features, (2, 16, 16, 3))
    assert valid.sum() == h * w
    wide = multiscale_np.MultiscaleNP(
        channels=3, widths=(4, 6, 8, 2, 2), down_blocks=(1, 1, 1, 0, 0), up_blocks=(1, 1, 0, 0)
    )
    padded = dict(variables["params"], network=dict(variables["params"]["network"]))
    shapes = jax.eval_shape(lambda k: wide.init(k, image, mask, train=True), jax.random.key(0))
    for name, layer in shapes["params"]["network"].items():
        if name not in padded["network"]:
            padded["network"][name] = jax.tree.map(lambda x: jnp.zeros(x.shape), layer)
    # The two further levels answer zero, so only the amount of padding differs.
    other = complete(wide, {"params": padded}, image, mask)
    np.testing.assert_allclose(alone.samples, other.samples, atol=2e-4)
    np.testing.assert_allclose(alone.cholesky, other.cholesky, atol=2e-4)


def test_a_picture_in_a_larger_frame_gets_the_answer_that_it_gets_alone():
    model, variables, image, mask = make(3, (6, 7))
    frame = ((0, 0), (4, 6), (8, 1), (0, 0))  # it begins at a multiple of 4, the coarsest cell
    inside = jnp.pad(jnp.ones((1, 6, 7, 1), bool), frame)
    wide = jnp.pad(image, frame, constant_values=0.7), jnp.pad(mask, frame)
    framed = predict.complete_batch(KEY, model, variables, *wide, num_samples=1, inside=inside)
    alone = predict.complete_batch(KEY, model, variables, image, mask, num_samples=1)
    for name in ("samples", "cholesky"):
        part = getattr(framed, name)[:, :, 4:10, 8:15]
        np.testing.assert_allclose(part, getattr(alone, name), atol=2e-4)


def test_what_is_further_away_than_the_margin_does_not_reach_the_network():
    model, variables, _, _ = make(1, (4, 4))
    margin = model.tile_margin()
    assert margin == 24 and model.cell == 4  # (2 + 4 + 8) on the way up, then 4 and 2, in cells of 4
    x = jnp.zeros((1, 64, 64, 1 + 1 + 4 * 2))
    row = 32

    @jax.jit
    def answer(changed):
        def run(module, x):
            return module.network(x)

        return model.apply(variables, x.at[:, changed].add(1.0), method=run)[0, row : row + 4]

    assert jnp.array_equal(answer(row - margin - 1), answer(row + 4 + margin))  # neither is seen
    assert not jnp.array_equal(answer(row - 8), answer(row + 4 + margin))
    assert multiscale_np.MultiscaleNP(channels=1, latent_dim=2, **TINY).tile_margin() is None


def test_the_scale_never_pulls_the_mean():
    model, variables, image, mask = make(3, (8, 8))
    _, _, gradient = terms_and_gradient(model, variables, image, mask)
    assert all(jnp.all(x == 0) for x in jax.tree.leaves(gradient["mean_head"]))
    assert all(jnp.any(x != 0) for x in jax.tree.leaves(gradient["scale_head"]))


def test_objective_equals_its_equation():
    model, variables, image, mask = make(3, (8, 8), scale_weight=0.25)
    terms, _, _ = terms_and_gradient(model, variables, image, mask)
    factor = np.asarray(complete(model, variables, image, mask).cholesky[0], np.float64)
    error = np.asarray(image - terms.prediction, np.float64)
    for i in range(2):
        log_prob = 0.0
        hidden = np.argwhere(~np.asarray(mask[i, :, :, 0]))
        for row, column in hidden:
            full = factor[i, row, column] @ factor[i, row, column].T
            square = error[i, row, column] @ np.linalg.solve(full, error[i, row, column])
            # Student's t, v = 4: Gamma(7/2) / (Gamma(2) (2 pi)^(3/2) |Sigma|^(1/2)) (1 + square / 2)^(-7/2).
            log_prob += math.lgamma(3.5) - 0.5 * np.linalg.slogdet(2 * np.pi * full)[1]
            log_prob -= 3.5 * np.log1p(square / 2)
        square = np.mean([error[i, row, column] ** 2 for row, column in hidden])
        reconstruction = -0.5 * 3 * len(hidden) * np.log(square + 1e-5) + 0.25 * log_prob
        np.testing.assert_allclose(terms.log_prob[i], log_prob, rtol=1e-4)
        np.testing.assert_allclose(terms.reconstruction[i], reconstruction, rtol=1e-4)
    np.testing.assert_allclose(terms.scale, np.sqrt(np.sum(factor**2, axis=-1)), rtol=1e-4)


def test_the_latent_variable_changes_the_answer_and_learns_from_the_full_image():
    model, variables, image, mask = make(3, (8, 8), latent_dim=3)
    terms, gradient, _ = terms_and_gradient(model, variables, image, mask)
    chex.assert_shape([terms.kl, terms.kl_per_dim], [(2,), (2, 3)])
    np.testing.assert_allclose(terms.kl, terms.kl_per_dim.sum(axis=1), rtol=1e-5)
    assert all(jnp.any(x != 0) for x in jax.tree.leaves((gradient["latent_head"], gradient["from_z"])))
    samples = complete(model, variables, image, mask).samples
    assert jnp.max(jnp.abs(samples[0] - samples[1])) > 1e-3
    hidden = jnp.where(mask, image, 0.5)
    np.testing.assert_array_equal(complete(model, variables, hidden, mask).samples, samples)


def test_fields_that_do_not_fit_are_one_sentence():
    with pytest.raises(UserError, match="up_blocks"):
        multiscale_np.MultiscaleNP(channels=3, widths=(4, 6))
    with pytest.raises(UserError, match="activation"):
        multiscale_np.MultiscaleNP(channels=3, activation="tanh")
    with pytest.raises(UserError, match=r"config.model.temperature is -1.0; it must be at least 0"):
        multiscale_np.MultiscaleNP(channels=3, temperature=-1.0)
