"""What only the autoencoders have: one grid, the prior N(0, I), and what they see of a mask."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax import objectives
from ifanp_jax.errors import UserError
from ifanp_jax.models import parameters
from tests import helpers
from tests.models.table import SHAPE, build, build_training, make_model

NAMES = ["vae.VAE", "vae.MaskedVAE"]
every_vae = pytest.mark.parametrize("name", NAMES)


def images_and_masks():
    return helpers.images_and_masks(SHAPE)


def train(name, image, mask):
    """The terms of a training."""
    return build_training(name)[1](image, mask, jax.random.key(5))[1]


@functools.cache
def compiled_latent(name):
    model = make_model(name)
    return jax.jit(functools.partial(model.apply, build(name)[0], method="latent"))


@pytest.mark.parametrize("num_halvings", [0, 1, 3])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (9, 1)])
def test_any_number_of_halvings_fits_any_size(num_halvings, size):
    model = make_model("vae.VAE", num_halvings=num_halvings)
    terms, completion, params = helpers.abstract_answers(model, *helpers.images_and_masks((*size, 1)))
    chex.assert_shape(terms.prediction, (3, *size, 1))
    chex.assert_shape(completion.samples, (2, 3, *size, 1))
    # Before z num_small positions of 4 channels, after it the same; z has 4 dimensions.
    num_small = np.prod([-(-side // 2**num_halvings) for side in size])
    count = 40 + num_halvings * (148 + 260) + 8 + 74 + (8 + 5) * 4 * num_small
    assert parameters.count_parameters(params) == count


@every_vae
def test_in_training_the_divergence_is_that_from_a_standard_normal(name):
    image, mask = images_and_masks()
    terms = train(name, image, mask)
    seen = mask if name == "vae.MaskedVAE" else jnp.ones_like(mask)
    mean, scale = (np.float64(x) for x in compiled_latent(name)(image, seen))
    expected = 0.5 * (mean**2 + scale**2 - 1 - 2 * np.log(scale))
    np.testing.assert_allclose(terms.kl_per_dim, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(terms.kl, expected.sum(axis=1), rtol=1e-4)


def test_the_training_of_a_vae_does_not_see_the_mask():
    image, mask = images_and_masks()
    terms = train("vae.VAE", image, mask)
    for other in (~mask, jnp.zeros_like(mask), jnp.ones_like(mask)):
        chex.assert_trees_all_equal(train("vae.VAE", image, other), terms)


def test_the_training_of_a_masked_vae_predicts_the_whole_image_from_its_context():
    image, mask = images_and_masks()
    terms = train("vae.MaskedVAE", image, mask)
    changed = train("vae.MaskedVAE", jnp.where(mask, image, 1 - image), mask)
    np.testing.assert_array_equal(changed.prediction, terms.prediction)
    np.testing.assert_array_equal(changed.kl, terms.kl)
    assert np.all(np.asarray(changed.log_prob != terms.log_prob))  # hidden pixels are targets


@every_vae
def test_in_a_test_the_divergence_is_between_the_full_and_the_masked_image(name):
    image, mask = images_and_masks()
    latent = compiled_latent(name)
    expected = objectives.gaussian_kl(*latent(image, jnp.ones_like(mask)), *latent(image, mask)).sum(axis=1)
    kl = build(name)[1](image, mask, jax.random.key(5))[0].kl
    np.testing.assert_allclose(kl, expected, rtol=1e-4, atol=1e-6)


@every_vae
def test_only_a_masked_vae_tells_hidden_from_black(name):
    image, mask = images_and_masks()
    black, everything = jnp.where(mask, image, 0), jnp.ones_like(mask)
    _, hidden = build(name)[1](image, mask, jax.random.key(5))
    _, as_black = build(name)[1](black, everything, jax.random.key(5))
    is_equal = bool(np.all(np.asarray(hidden.samples == as_black.samples)))
    assert is_equal == (name == "vae.VAE")


def test_a_negative_number_of_halvings_is_refused():
    with pytest.raises(UserError, match=r"config\.model\.num_halvings is -1; it must be at least 0"):
        make_model("vae.VAE", num_halvings=-1)
