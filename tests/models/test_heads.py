import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from ifanp_jax import objectives
from ifanp_jax.errors import UserError
from ifanp_jax.models import heads
from ifanp_jax.models.base import Completion

CHANNELS = 3
SIGMA_FLOOR = 0.05
SHAPE = (2, 1, 4, 5)  # (S, B, H, W)


def make_head(likelihood, **fields):
    return heads.GaussianHead(CHANNELS, likelihood, **{"sigma": 0.2, "sigma_floor": SIGMA_FLOOR} | fields)


def random_outputs(head, *, scale=3.0):
    shape = (*SHAPE, head.num_outputs)
    return np.random.default_rng(0).normal(scale=scale, size=shape).astype(np.float32)


def split(head, out):
    """What the head makes of outputs, with its parameters at their start."""
    return head.apply(head.init(jax.random.key(0), out), out)


@pytest.mark.parametrize(
    ("likelihood", "fields", "expected"),
    [
        ("fixed", {}, 3),
        ("learned", {}, 3),
        ("per_pixel", {}, 6),
        ("per_image", {}, 6),
        ("per_image", {"has_covariance": True}, 9),
        ("per_image", {"scale_weight": 0.0}, 3),
    ],
)
def test_the_network_answers_with_the_mean_and_what_the_scale_is_made_of(likelihood, fields, expected):
    head = make_head(likelihood, **fields)
    assert head.num_outputs == expected
    out = random_outputs(head)
    completion = split(head, out)
    np.testing.assert_array_equal(completion.samples, out[..., :CHANNELS])
    with pytest.raises(AssertionError):
        split(head, np.concatenate([out, out[..., :1]], axis=-1))


@pytest.mark.parametrize("likelihood", heads.LIKELIHOODS)
def test_the_scale_is_its_equation(likelihood):
    head = make_head(likelihood)
    out = random_outputs(head)
    raw = np.float64(out[..., CHANNELS:])
    start = np.log(np.expm1(0.2 - SIGMA_FLOOR))
    expected = {
        "fixed": lambda: 0.2,
        "learned": lambda: 0.2,  # at its start
        "per_pixel": lambda: SIGMA_FLOOR + (1 - SIGMA_FLOOR) * np.logaddexp(0, raw),
        "per_image": lambda: SIGMA_FLOOR + np.logaddexp(0, raw + start),
    }[likelihood]()
    scale = split(head, out).scale
    assert scale.shape == (*SHAPE, CHANNELS) and scale.dtype == jnp.float32
    np.testing.assert_allclose(scale, np.broadcast_to(expected, scale.shape), rtol=1e-4)


def test_a_learned_scale_is_one_parameter():
    head = make_head("learned")
    out = random_outputs(head)
    scale = head.apply({"params": {"raw_sigma": jnp.float32(0.7)}}, out).scale
    expected = SIGMA_FLOOR + (1 - SIGMA_FLOOR) * np.logaddexp(0, 0.7)
    np.testing.assert_allclose(scale, np.full_like(scale, expected), rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["per_pixel", "per_image"])
def test_a_scale_never_falls_below_its_floor_and_grows_without_bound(likelihood):
    head = heads.GaussianHead(1, likelihood, sigma_floor=SIGMA_FLOOR)
    out = np.array([[0.0, -100.0], [0.0, 1000.0]], np.float32)
    scale = split(head, out).scale
    np.testing.assert_allclose(scale[0], SIGMA_FLOOR, rtol=1e-5)
    assert scale[1] > 900


@pytest.mark.parametrize(("sigma", "floor"), [(0.1, 0.01), (0.1, 0.0), (0.5, 0.49), (2.0, 0.1)])
@pytest.mark.parametrize("likelihood", ["learned", "per_image"])
def test_a_scale_starts_at_the_given_one(likelihood, sigma, floor):
    head = make_head(likelihood, sigma=sigma, sigma_floor=floor)
    out = jnp.zeros((*SHAPE, head.num_outputs))
    np.testing.assert_allclose(split(head, out).scale, sigma, rtol=1e-4)


def test_a_covariance_has_a_triangular_factor_with_the_floor_on_its_diagonal():
    head = make_head("per_image", has_covariance=True)
    out = random_outputs(head)
    completion = split(head, out)
    factor = np.float64(completion.cholesky)
    raw = np.float64(out[..., CHANNELS:])
    np.testing.assert_array_equal(factor, np.tril(factor))
    diagonal = SIGMA_FLOOR + np.logaddexp(0, raw[..., :3] + np.log(np.expm1(0.2 - SIGMA_FLOOR)))
    np.testing.assert_allclose(np.diagonal(factor, axis1=-2, axis2=-1), diagonal, rtol=1e-4)
    variance = np.diagonal(factor @ np.swapaxes(factor, -1, -2), axis1=-2, axis2=-1)
    np.testing.assert_allclose(completion.scale, np.sqrt(variance), rtol=1e-5)


@pytest.mark.parametrize(
    ("likelihood", "fields", "message"),
    [
        ("sparkling", {}, "likelihood is 'sparkling'; choose one of fixed, learned, per_pixel, per_image"),
        ("fixed", {"sigma": 0.0}, r"sigma is 0\.0; it must be at least"),
        ("fixed", {"sigma_floor": 1.0}, r"sigma_floor is 1\.0; it must be between 0 and 0\.999"),
        ("fixed", {"scale_weight": -1.0}, r"scale_weight is -1\.0; it must be at least 0"),
        ("learned", {"sigma": 0.05}, r"sigma is 0\.05; .*must be above config\.model\.sigma_floor"),
        ("per_image", {"sigma": 0.05}, r"sigma is 0\.05; .*must be above config\.model\.sigma_floor"),
        ("per_pixel", {"has_covariance": True}, "has_covariance is True; it needs"),
        ("per_image", {"has_covariance": True, "scale_weight": 0.0}, "has_covariance is True; it needs"),
    ],
)
def test_fields_that_cannot_work_are_told(likelihood, fields, message):
    with pytest.raises(UserError, match=rf"config\.model\.{message}"):
        make_head(likelihood, **fields)


def terms_inputs():
    generator = np.random.default_rng(0)
    image = generator.random((2, 4, 5, 3), np.float32)
    mask = jnp.asarray(generator.random((2, 4, 5, 1)) < 0.5)
    samples = generator.random((6, *image.shape), np.float32)
    scale = generator.uniform(0.1, 1, samples.shape).astype(np.float32)
    return image, mask, Completion(samples=samples, scale=scale)


@pytest.mark.parametrize("target", objectives.TARGETS)
def test_terms_are_those_of_the_objectives(target):
    image, mask, completion = terms_inputs()
    kl_per_dim = np.random.default_rng(1).random((2, 4), np.float32)
    terms = make_head("fixed").terms(image, mask, completion, target=target, kl_per_dim=kl_per_dim)
    targets = objectives.target_pixels(mask, target)
    one_by_one = [
        objectives.gaussian_log_prob(image, *one, targets)
        for one in zip(completion.samples, completion.scale, strict=True)
    ]
    np.testing.assert_allclose(terms.log_prob, np.mean(one_by_one, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(terms.reconstruction, terms.log_prob)
    np.testing.assert_allclose(terms.kl, kl_per_dim.sum(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(terms.kl_per_dim, kl_per_dim)
    np.testing.assert_allclose(terms.prediction, completion.samples.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(terms.scale, completion.scale.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("target", objectives.TARGETS)
def test_one_scale_per_image_adds_the_weighted_likelihood_of_the_scale(target):
    image, mask, completion = terms_inputs()
    targets = objectives.target_pixels(mask, target)
    of_mean = objectives.per_image_log_prob(image, completion.samples, targets).mean(axis=0)
    of_scale = objectives.gaussian_log_prob(image, completion.samples, completion.scale, targets).mean(axis=0)
    terms = make_head("per_image", scale_weight=0.3).terms(image, mask, completion, target=target)
    np.testing.assert_allclose(terms.log_prob, of_scale, rtol=1e-5)
    np.testing.assert_allclose(terms.reconstruction, of_mean + 0.3 * of_scale, rtol=1e-5)
    assert terms.kl is None and terms.kl_per_dim is None


def test_under_one_scale_per_image_the_mean_does_not_hear_of_the_scale():
    image, mask, completion = terms_inputs()

    def by_mean(samples, weight):
        head = make_head("per_image", scale_weight=weight)
        return head.terms(image, mask, completion.replace(samples=samples), target="all").reconstruction.sum()

    light, heavy = (jax.grad(by_mean)(completion.samples, weight) for weight in (0.1, 10.0))
    np.testing.assert_allclose(light, heavy, rtol=1e-4)


def test_without_a_scale_there_is_no_log_likelihood():
    image, mask, completion = terms_inputs()
    head = make_head("per_image", scale_weight=0.0)
    terms = head.terms(image, mask, completion.replace(scale=None), target="all")
    assert terms.log_prob is None and terms.scale is None
    expected = objectives.per_image_log_prob(image, completion.samples, jnp.ones_like(mask)).mean(axis=0)
    np.testing.assert_allclose(terms.reconstruction, expected, rtol=1e-6)


def test_the_log_likelihood_of_a_completion_follows_its_factor():
    image, mask, completion = terms_inputs()
    diagonal = completion.scale[..., None] * np.eye(3, dtype=np.float32)
    independent = heads.completion_log_prob(image, completion, ~mask)
    correlated = heads.completion_log_prob(image, completion.replace(cholesky=diagonal), ~mask)
    assert independent.shape == (6, 2)
    np.testing.assert_allclose(correlated, independent, rtol=1e-5)
    assert heads.completion_log_prob(image, Completion(samples=completion.samples), ~mask) is None


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
