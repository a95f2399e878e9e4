import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ifanp_jax import objectives

H, W, C = 2, 3, 2
SHAPE = (4, H, W, C)


def random_gaussians(seed, shape):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype(np.float32), generator.uniform(0.1, 1.0, shape).astype(
        np.float32
    )


@pytest.mark.parametrize("leading", [(), (3,)])
@pytest.mark.parametrize("target", objectives.TARGETS)
def test_log_prob_is_scipys_summed_over_target_pixels(leading, target):
    image, _ = random_gaussians(0, SHAPE)
    mean, scale = random_gaussians(1, (*leading, *SHAPE))
    mask = np.random.default_rng(2).random((4, H, W, 1)) < 0.5
    targets = objectives.target_pixels(mask, target)
    counted = np.ones_like(mask) if target == "all" else ~mask
    expected = (stats.norm.logpdf(image, mean, scale) * counted).sum(axis=(-3, -2, -1))
    log_prob = objectives.gaussian_log_prob(image, mean, scale, targets)
    assert log_prob.shape == (*leading, 4) and log_prob.dtype == jnp.float32
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
    compiled = jax.jit(objectives.gaussian_log_prob)(image, mean, scale, targets)
    np.testing.assert_allclose(compiled, log_prob, rtol=1e-5)


def test_log_prob_of_bfloat16_is_summed_in_float32():
    image, mean = jnp.zeros((1, 64, 64, 1), jnp.bfloat16), jnp.ones((1, 64, 64, 1), jnp.bfloat16)
    log_prob = objectives.gaussian_log_prob(image, mean, mean, jnp.ones((1, 64, 64, 1), bool))
    np.testing.assert_allclose(log_prob, 4096 * stats.norm.logpdf(1.0), rtol=1e-5)


@pytest.mark.parametrize("broken", ["mean", "scale", "targets", "channels"])
def test_log_prob_refuses_wrong_shapes(broken):
    image = mean = scale = np.ones(SHAPE, np.float32)
    targets = np.ones((4, H, W, 1), bool)
    if broken == "mean":
        mean = scale = mean[:1]
    elif broken == "scale":
        scale = scale[..., :1]
    elif broken == "targets":
        targets = targets[:1]
    else:
        image = image[..., :1]
    with pytest.raises(AssertionError):
        objectives.gaussian_log_prob(image, mean, scale, targets)


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="'observed'; choose one of"):
        objectives.target_pixels(jnp.ones((1, 2, 2, 1), bool), "observed")


def test_kl_closed_form_and_compiled():
    q, p = random_gaussians(0, (3, 5)), random_gaussians(1, (3, 5))
    (mean_q, scale_q), (mean_p, scale_p) = np.float64(q), np.float64(p)
    expected = np.log(scale_p / scale_q) + (scale_q**2 + (mean_q - mean_p) ** 2) / (2 * scale_p**2) - 0.5
    kl = objectives.gaussian_kl(*q, *p)
    np.testing.assert_allclose(kl, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(jax.jit(objectives.gaussian_kl)(*q, *p), kl, rtol=1e-5, atol=1e-7)


def test_kl_is_what_sampling_gives():
    q, p = random_gaussians(0, (1, 4)), random_gaussians(1, (1, 4))
    draws = np.random.default_rng(2).normal(*q, size=(400_000, 4))
    difference = stats.norm.logpdf(draws, *q) - stats.norm.logpdf(draws, *p)
    error = difference.std(axis=0) / np.sqrt(len(draws))
    assert np.all(np.abs(difference.mean(axis=0) - objectives.gaussian_kl(*q, *p)[0]) < 5 * error)


@pytest.mark.parametrize("relative", [1e-2, 1e-3, 1e-4])
def test_a_tiny_kl_keeps_its_digits(relative):
    # The tables hold divergences of 1e-5 nats summed over all dimensions.
    scale_q, scale_p = np.float32(0.5 * (1 + relative)), np.float32(0.5)
    ratio = (np.float64(scale_q) / np.float64(scale_p)) ** 2 - 1
    expected = 0.5 * (ratio - np.log1p(ratio))
    zero = jnp.zeros((1, 1))
    kl = objectives.gaussian_kl(zero, jnp.full((1, 1), scale_q), zero, jnp.full((1, 1), scale_p))
    np.testing.assert_allclose(kl, expected, rtol=0.05 * 1e-2 / relative * 0.1)
    shifted = objectives.gaussian_kl(zero + 1e-4, zero + 0.5, zero, zero + 0.5)
    np.testing.assert_allclose(shifted, 0.5 * (1e-4 / 0.5) ** 2, rtol=1e-4)


def test_kl_of_equal_gaussians_is_exactly_zero_with_zero_gradient():
    mean, scale = random_gaussians(0, (2, 3))
    np.testing.assert_array_equal(objectives.gaussian_kl(mean, scale, mean, scale), 0)
    gradients = jax.grad(lambda *q: objectives.gaussian_kl(*q, mean, scale).sum(), argnums=(0, 1))(
        mean, scale
    )
    np.testing.assert_allclose(gradients, 0, atol=1e-6)


def test_kl_refuses_unequal_shapes():
    with pytest.raises(AssertionError):
        objectives.gaussian_kl(*(np.ones((2, 3)),) * 3, np.ones((1, 3)))


def test_elbo():
    log_prob, kl = np.array([-3.0, 1.0]), np.array([0.5, 2.0])
    np.testing.assert_allclose(objectives.elbo(log_prob, kl), [-3.5, -1.0])
    np.testing.assert_allclose(objectives.elbo(log_prob, kl, kl_weight=0.5), [-3.25, 0.0])
    np.testing.assert_allclose(jax.jit(objectives.elbo)(log_prob, kl), [-3.5, -1.0])


@pytest.mark.parametrize(("log_prob", "kl"), [((2,), (3,)), ((2, 1), (2, 1)), ((), ())])
def test_elbo_refuses_wrong_shapes(log_prob, kl):
    with pytest.raises(AssertionError):
        objectives.elbo(np.ones(log_prob), np.ones(kl))


def test_importance_weighted_bound_of_constant_weights_is_the_weight():
    weights = np.array([[-700.0, 3.0, 0.0]], np.float32)
    for num_samples in (1, 7):
        bound = objectives.importance_weighted_bound(np.repeat(weights, num_samples, axis=0))
        np.testing.assert_allclose(bound, weights[0], rtol=1e-6, atol=1e-6)


def test_importance_weighted_bound_is_a_log_mean_at_least_the_mean_of_logs():
    log_weights = np.random.default_rng(0).normal(scale=4.0, size=(6, 5)).astype(np.float32)
    bound = objectives.importance_weighted_bound(log_weights)
    np.testing.assert_allclose(bound, np.log(np.exp(log_weights).mean(axis=0)), rtol=1e-4)
    np.testing.assert_allclose(jax.jit(objectives.importance_weighted_bound)(log_weights), bound, rtol=1e-6)
    assert np.all(np.asarray(bound) > log_weights.mean(axis=0))
    with pytest.raises(AssertionError):
        objectives.importance_weighted_bound(log_weights[0])


def test_bounds_of_a_linear_gaussian_model():
    # y = z + noise, z ~ N(0, 1), noise ~ N(0, s^2): evidence N(y; 0, 1 + s^2) and posterior are exact.
    y, s = 0.8, 0.6
    evidence = stats.norm.logpdf(y, 0, np.sqrt(1 + s**2))
    posterior = y / (1 + s**2), np.sqrt(s**2 / (1 + s**2))
    image = np.full((1, 1, 1, 1), y, np.float32)

    def log_likelihood(z):
        mean = np.float32(z).reshape(-1, 1, 1, 1, 1)
        targets = np.ones((1, 1, 1, 1), bool)
        return objectives.gaussian_log_prob(image, mean, np.full_like(mean, s), targets)  # (K, 1)

    generator = np.random.default_rng(0)
    prior_draws = generator.normal(size=200_000)
    bound = objectives.importance_weighted_bound(log_likelihood(prior_draws))
    np.testing.assert_allclose(bound, evidence, atol=5e-3)
    few = log_likelihood(prior_draws).reshape(-1, 10).T  # 20,000 bounds of K = 10
    assert np.mean(objectives.importance_weighted_bound(few)) < evidence

    def negative_gap(mean, scale):
        draws = generator.normal(mean, scale, 100_000)
        q, p = (
            (np.full((1, 1), value, np.float32) for value in (mean, scale)),
            (np.zeros((1, 1)), np.ones((1, 1))),
        )
        kl = objectives.gaussian_kl(*q, *p).sum(axis=1)
        return float(objectives.elbo(log_likelihood(draws).mean(axis=0), kl)[0]) - evidence

    assert abs(negative_gap(*posterior)) < 0.01  # tight at the exact posterior
    assert negative_gap(0.0, 1.0) < -0.1  # loose elsewhere


def test_importance_weighted_bound_of_many_pixels_rises_to_the_evidence():
    # y = a z + noise over six pixels, z ~ N(0, 1), noise ~ N(0, s^2 I): evidence N(y; 0, a a^T + s^2 I).
    a, s = np.array([0.6, -0.4, 0.9, 0.2, -0.8, 0.5]), 0.7
    y = np.array([0.9, -0.1, 0.6, -0.3, -1.2, 0.8])
    evidence = stats.multivariate_normal.logpdf(y, cov=np.outer(a, a) + s**2 * np.eye(6))
    num_repeats, counts = 2000, (1, 2, 4, 8, 16, 32, 64)
    z = np.random.default_rng(0).normal(size=(num_repeats * counts[-1], 1))
    mean = np.float32(z * a).reshape(-1, 1, 2, 3, 1)
    image, targets = np.float32(y).reshape(1, 2, 3, 1), np.ones((1, 2, 3, 1), bool)
    log_weights = objectives.gaussian_log_prob(image, mean, np.full_like(mean, s), targets)  # (K, 1)
    bounds = [
        np.float64(objectives.importance_weighted_bound(log_weights.reshape(-1, count).T)) for count in counts
    ]
    means = np.array([bound.mean() for bound in bounds])
    errors = np.array([bound.std() / np.sqrt(bound.size) for bound in bounds])
    # One sample: E log p(y | z) is exact too.
    single = stats.norm.logpdf(y, 0, s).sum() - (a @ a) / (2 * s**2)
    assert abs(means[0] - single) < 4 * errors[0]
    assert np.all(np.diff(means) > 0)
    assert np.all(means < evidence + 4 * errors)
    assert means[-1] > evidence - 0.05
    weights = np.exp(np.float64(log_weights[:, 0]) - evidence)
    error = weights.std() / np.sqrt(len(weights))  # of the bound with all samples, by the delta method
    assert abs(objectives.importance_weighted_bound(log_weights)[0] - evidence) < 4 * error
