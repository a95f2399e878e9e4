import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from ifanp_jax import objectives
from ifanp_jax.models import heads

CHANNELS = 3
SIGMA_FLOOR = 0.05


def random_outputs(name):
    num_outputs = heads.num_outputs(name, CHANNELS)
    return np.random.default_rng(0).normal(scale=3, size=(2, 4, 5, num_outputs)).astype(np.float32)


@pytest.mark.parametrize(("name", "expected"), [("fixed", 3), ("learned", 3), ("per_pixel", 6)])
def test_only_a_sigma_per_pixel_needs_further_outputs(name, expected):
    assert heads.num_outputs(name, CHANNELS) == expected


@pytest.mark.parametrize("name", heads.LIKELIHOODS)
def test_mean_and_sigma_are_their_equations(name):
    out = random_outputs(name)
    raw = {"fixed": None, "learned": 0.7, "per_pixel": None}[name]
    raw_sigma = None if raw is None else jnp.float32(raw)
    mean, sigma = heads.gaussian(out, CHANNELS, name, 0.2, SIGMA_FLOOR, raw_sigma)
    np.testing.assert_array_equal(mean, out[..., :CHANNELS])
    raw = out[..., CHANNELS:] if name == "per_pixel" else raw
    expected = 0.2 if name == "fixed" else SIGMA_FLOOR + (1 - SIGMA_FLOOR) * np.logaddexp(0, raw)
    assert sigma.shape == mean.shape and sigma.dtype == jnp.float32
    np.testing.assert_allclose(sigma, np.broadcast_to(expected, mean.shape), rtol=1e-5)


def test_sigma_never_falls_below_its_floor_and_grows_without_bound():
    out = np.array([[0.0, -100.0], [0.0, 100.0]], np.float32)
    _, sigma = heads.gaussian(out, 1, "per_pixel", 0.2, SIGMA_FLOOR, None)
    np.testing.assert_allclose(sigma[:, 0], [SIGMA_FLOOR, SIGMA_FLOOR + 95], rtol=1e-5)


@pytest.mark.parametrize(("sigma", "floor"), [(0.1, 0.01), (0.1, 0.0), (0.5, 0.49), (2.0, 0.1)])
def test_a_learned_sigma_starts_at_the_given_one(sigma, floor):
    raw = jnp.float32(heads.initial_raw_sigma(sigma, floor))
    _, start = heads.gaussian(random_outputs("learned"), CHANNELS, "learned", np.nan, floor, raw)
    np.testing.assert_allclose(start, sigma, rtol=1e-4)


def test_the_latent_scale_lies_between_a_tenth_and_one():
    raw = np.random.default_rng(0).normal(scale=3, size=(4, 6)).astype(np.float32)
    mean, scale = heads.latent_gaussian(raw)
    np.testing.assert_array_equal(mean, raw[:, :3])
    np.testing.assert_allclose(scale, 0.1 + 0.9 * special.expit(raw[:, 3:]), rtol=1e-5)
    _, limits = heads.latent_gaussian(jnp.array([[0.0, 0.0, -100.0, 100.0]]))
    np.testing.assert_allclose(limits, [[0.1, 1.0]], rtol=1e-6)


@pytest.mark.parametrize("train", [False, True])
def test_latent_draws_are_shifted_and_scaled_noise(train):
    mean, scale = jnp.array([[1.0, -2.0], [0.0, 5.0]]), jnp.array([[0.1, 2.0], [1.0, 0.5]])
    call = {"train": train, "num_samples": 3}
    noise = heads.sample_latent(jax.random.key(0), jnp.zeros_like(mean), jnp.ones_like(scale), **call)
    z = heads.sample_latent(jax.random.key(0), mean, scale, **call)
    assert z.shape == (3, 2, 2) and z.dtype == jnp.float32
    np.testing.assert_allclose(z, mean[None] + scale[None] * noise, rtol=1e-6)


def test_training_noise_is_drawn_per_image_and_test_noise_is_shared():
    mean, scale = jnp.zeros((4, 3)), jnp.ones((4, 3))
    independent, shared = (
        np.asarray(heads.sample_latent(jax.random.key(0), mean, scale, train=train, num_samples=2))
        for train in (True, False)
    )
    assert len(np.unique(independent)) == 24
    assert len(np.unique(shared)) == 6
    np.testing.assert_array_equal(shared, np.broadcast_to(shared[:, :1], shared.shape))


def test_many_latent_draws_have_the_mean_and_the_scale():
    mean, scale = jnp.array([[1.0, -2.0]]), jnp.array([[0.1, 0.9]])
    num_samples = 40_000
    z = heads.sample_latent(jax.random.key(1), mean, scale, train=False, num_samples=num_samples)
    error = np.asarray(scale[0]) / np.sqrt(num_samples)
    assert np.all(np.abs(z.mean(axis=0)[0] - mean[0]) < 5 * error)
    assert np.all(np.abs(z.std(axis=0)[0] - scale[0]) < 5 * error)


def test_without_a_latent_variable_a_draw_is_empty():
    empty = jnp.zeros((4, 0))
    z = heads.sample_latent(jax.random.key(0), empty, empty, train=True, num_samples=2)
    assert z.shape == (2, 4, 0)


@pytest.mark.parametrize("target", objectives.TARGETS)
def test_elbo_terms_are_those_of_the_objectives(target):
    generator = np.random.default_rng(0)
    image = generator.random((2, 4, 5, 3), np.float32)
    mask = jnp.asarray(generator.random((2, 4, 5, 1)) < 0.5)
    samples = generator.random((6, *image.shape), np.float32)
    sigma = generator.uniform(0.1, 1, samples.shape).astype(np.float32)
    kl_per_dim = generator.random((2, 4), np.float32)
    terms = heads.elbo_terms(image, mask, samples, sigma, kl_per_dim, target)
    targets = objectives.target_pixels(mask, target)
    one_by_one = [
        objectives.gaussian_log_prob(image, *one, targets) for one in zip(samples, sigma, strict=True)
    ]
    np.testing.assert_allclose(terms.log_prob, np.mean(one_by_one, axis=0), rtol=1e-5)
    np.testing.assert_allclose(terms.kl, kl_per_dim.sum(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(terms.kl_per_dim, kl_per_dim)
    np.testing.assert_allclose(terms.prediction, samples.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(terms.scale, sigma.mean(axis=0), rtol=1e-5)


def test_elbo_terms_without_a_latent_variable_have_no_divergence():
    image, mask = jnp.zeros((2, 4, 5, 1)), jnp.ones((2, 4, 5, 1), bool)
    terms = heads.elbo_terms(image, mask, image[None], jnp.ones_like(image)[None], jnp.zeros((2, 0)), "all")
    np.testing.assert_array_equal(terms.kl, np.zeros(2))
