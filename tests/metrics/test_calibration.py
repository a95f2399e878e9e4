"""PIT, coverage, CRPS and rank correlation against SciPy, closed forms and sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from ifanp_jax.metrics import calibration

SHAPE = (3, 6, 5, 2)


def random_mixture(num_samples, *, shape=SHAPE, seed=0):
    """Means and scales of the normals (S, B, H, W, C), an image, and which of its pixels count."""
    generator = np.random.default_rng(seed)
    samples = generator.normal(size=(num_samples, *shape)).astype(np.float32)
    scale = generator.uniform(0.2, 1.5, samples.shape).astype(np.float32)
    image = generator.normal(size=shape).astype(np.float32)
    targets = generator.random((*shape[:3], 1)) < 0.5
    targets[:, 0, 0], targets[:, 0, 1] = True, False
    return samples, scale, image, targets


def draw_from(samples, scale, *, seed=1):
    """One value per pixel, drawn from the mixture itself."""
    generator = np.random.default_rng(seed)
    component = generator.integers(len(samples), size=(1, *samples.shape[1:]))
    mean, deviation = (np.take_along_axis(x, component, axis=0)[0] for x in (samples, scale))
    return generator.normal(mean, deviation).astype(np.float32)


def target_means(values, targets):
    """Mean over the target pixels and channels of each image, in float64."""
    selected = targets[..., 0]
    return [np.mean(one[pixels], dtype=np.float64) for one, pixels in zip(values, selected, strict=True)]


def normal_crps(mean, scale, y):
    """Gneiting and Raftery, 2007, equation 21, as a score to be minimised."""
    ratio = (y - mean) / scale
    normal = stats.norm
    return scale * (ratio * (2 * normal.cdf(ratio) - 1) + 2 * normal.pdf(ratio) - 1 / np.sqrt(np.pi))


def test_pit_of_one_normal_is_its_distribution_function():
    samples, scale, image, _ = random_mixture(1)
    probabilities = calibration.probability_integral_transform(samples, scale, image)
    assert probabilities.shape == SHAPE and probabilities.dtype == jnp.float32
    np.testing.assert_allclose(probabilities, stats.norm.cdf(image, samples[0], scale[0]), atol=1e-6)


def test_pit_of_a_mixture_is_the_mean_of_its_parts():
    samples, scale, image, _ = random_mixture(5)
    probabilities = calibration.probability_integral_transform(samples, scale, image)
    np.testing.assert_allclose(
        probabilities, stats.norm.cdf(image[None], samples, scale).mean(axis=0), atol=1e-6
    )


def test_pit_of_values_drawn_from_the_mixture_is_uniform():
    samples, scale, _, _ = random_mixture(4, shape=(1, 50, 50, 2))
    probabilities = calibration.probability_integral_transform(samples, scale, draw_from(samples, scale))
    assert stats.kstest(np.asarray(probabilities).ravel(), "uniform").pvalue > 0.01


def test_pit_of_values_drawn_elsewhere_is_not_uniform():
    samples, scale, _, _ = random_mixture(4, shape=(1, 50, 50, 2))
    shifted = draw_from(samples, scale) + np.float32(0.3)
    probabilities = calibration.probability_integral_transform(samples, scale, shifted)
    assert stats.kstest(np.asarray(probabilities).ravel(), "uniform").pvalue < 1e-6


def test_coverage_is_counted_by_hand():
    probabilities = np.array([0.5, 0.3, 0.71, 0.05, 0.99], np.float32).reshape(1, 1, 5, 1)
    targets = np.ones((1, 1, 5, 1), bool)
    result = calibration.coverage(probabilities, targets, (0.1, 0.41, 0.43, 0.92, 0.99))
    np.testing.assert_allclose(result, [[0.2, 0.4, 0.6, 0.8, 1.0]], rtol=1e-6)


def test_coverage_is_the_share_between_the_quantiles_of_the_normal():
    samples, scale, image, targets = random_mixture(1)
    probabilities = calibration.probability_integral_transform(samples, scale, image)
    result = calibration.coverage(probabilities, targets, calibration.LEVELS)
    assert result.shape == (3, len(calibration.LEVELS)) and result.dtype == jnp.float32
    for index, level in enumerate(calibration.LEVELS):
        low, high = stats.norm.interval(level, samples[0], scale[0])
        expected = target_means((low <= image) & (image <= high), targets)
        np.testing.assert_allclose(result[:, index], expected, atol=1e-6)


def test_coverage_of_values_drawn_from_the_mixture_is_the_level():
    samples, scale, _, _ = random_mixture(4, shape=(1, 80, 80, 1))
    probabilities = calibration.probability_integral_transform(samples, scale, draw_from(samples, scale))
    result = calibration.coverage(probabilities, np.ones((1, 80, 80, 1), bool), calibration.LEVELS)[0]
    levels = np.array(calibration.LEVELS)
    assert np.all(np.abs(result - levels) < 4 * np.sqrt(levels * (1 - levels) / probabilities.size))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_too_small_scale_covers_too_little_and_a_too_large_one_too_much(factor):
    samples, scale, _, _ = random_mixture(1, shape=(1, 80, 80, 1))
    image = draw_from(samples, scale)
    probabilities = calibration.probability_integral_transform(samples, np.float32(factor) * scale, image)
    result = calibration.coverage(probabilities, np.ones((1, 80, 80, 1), bool), calibration.LEVELS)[0]
    levels = np.array(calibration.LEVELS)
    expected = 2 * stats.norm.cdf(factor * stats.norm.ppf(0.5 + levels / 2)) - 1
    assert np.all(np.abs(result - expected) < 4 * np.sqrt(expected * (1 - expected) / image.size))
    assert np.all(np.sign(result - levels) == np.sign(factor - 1))


def test_crps_of_one_normal_is_its_closed_form():
    samples, scale, image, targets = random_mixture(1)
    result = calibration.crps(samples, scale, image, targets)
    assert result.shape == (3,) and result.dtype == jnp.float32
    expected = target_means(normal_crps(samples[0], scale[0], image), targets)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_crps_of_equal_normals_is_that_of_one():
    samples, scale, image, targets = random_mixture(1)
    repeated = calibration.crps(np.repeat(samples, 4, axis=0), np.repeat(scale, 4, axis=0), image, targets)
    np.testing.assert_allclose(repeated, calibration.crps(samples, scale, image, targets), rtol=1e-5)


def test_crps_of_a_mixture_is_what_sampling_gives():
    samples, scale, image, targets = random_mixture(3, shape=(1, 2, 2, 1))
    targets[:] = True
    num_draws = 100_000
    x, other = (
        draw_from(*(np.repeat(part, num_draws, axis=1) for part in (samples, scale)), seed=seed)
        for seed in (5, 6)
    )
    score = (np.abs(x - image) - 0.5 * np.abs(x - other)).mean(axis=(1, 2, 3))
    error = score.std() / np.sqrt(num_draws)
    assert abs(calibration.crps(samples, scale, image, targets)[0] - score.mean()) < 4 * error


def test_pit_of_student_t_is_that_of_scipy():
    samples, scale, image, _ = random_mixture(3)
    result = calibration.probability_integral_transform(samples, scale, image, distribution="student_t")
    expected = stats.t.cdf(image[None], 4, samples, scale / np.sqrt(2)).mean(axis=0)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def student_t_crps(mean, scale, y):
    """Jordan, Krueger and Lerch, 2019, of 4 degrees of freedom and that standard deviation."""
    scale = scale / np.sqrt(2)
    z = (y - mean) / scale
    constant = 2 * np.sqrt(4) / 3 * special.beta(0.5, 3.5) / special.beta(0.5, 2) ** 2
    return scale * (
        z * (2 * stats.t.cdf(z, 4) - 1) + 2 * stats.t.pdf(z, 4) * (4 + np.square(z)) / 3 - constant
    )


def test_crps_of_student_t_is_its_closed_form():
    samples, scale, image, targets = random_mixture(1)
    result = calibration.crps(samples, scale, image, targets, distribution="student_t")
    expected = target_means(student_t_crps(samples[0], scale[0], image), targets)
    np.testing.assert_allclose(result, expected, rtol=1e-4)


def test_crps_of_a_mixture_of_t_is_what_sampling_gives():
    samples, scale, image, targets = random_mixture(3, shape=(1, 2, 2, 1))
    targets[:] = True
    generator, num_draws = np.random.default_rng(0), 200_000
    chosen = generator.integers(3, size=(2, num_draws, 4))
    mean, deviation = (np.take_along_axis(x.reshape(1, 3, 4), chosen, axis=1) for x in (samples, scale))
    x, other = mean + deviation * generator.standard_t(4, chosen.shape) / np.sqrt(2)
    score = (np.abs(x - image.reshape(4)) - 0.5 * np.abs(x - other)).mean(axis=1)
    result = calibration.crps(samples, scale, image, targets, distribution="student_t")[0]
    assert abs(result - score.mean()) < 4 * score.std() / np.sqrt(num_draws)


def test_crps_of_a_mixture_of_t_reaches_as_far_as_its_components():
    samples = np.array([-0.3, 0.3], np.float32).reshape(2, 1, 1, 1, 1)
    scale, everywhere = np.full_like(samples, 0.005), np.ones((1, 1, 1, 1), bool)
    truth = np.zeros((1, 1, 1, 1), np.float32)
    result = calibration.crps(samples, scale, truth, everywhere, distribution="student_t")
    assert abs(result[0] - 0.15) < 0.025  # mean distance 0.3 from the truth, 0.3 between two draws


def test_levels_are_every_twentieth():
    np.testing.assert_allclose(calibration.LEVELS, np.arange(5, 100, 5) / 100)


def test_crps_of_one_exact_sample_is_the_absolute_error():
    samples, _, image, targets = random_mixture(1)
    result = calibration.crps(samples, np.full_like(samples, 1e-6), image, targets)
    np.testing.assert_allclose(result, target_means(np.abs(image - samples[0]), targets), rtol=1e-4)


def test_crps_of_exact_samples_is_that_of_an_ensemble():
    samples, _, image, targets = random_mixture(4)
    result = calibration.crps(samples, np.full_like(samples, 1e-6), image, targets)
    between = np.abs(samples[:, None] - samples[None]).mean(axis=(0, 1))
    expected = target_means(np.abs(image[None] - samples).mean(axis=0) - 0.5 * between, targets)
    np.testing.assert_allclose(result, expected, rtol=1e-4)


def test_crps_is_smallest_in_expectation_for_the_true_scale():
    samples, scale, _, _ = random_mixture(1, shape=(1, 80, 80, 1))
    image, targets = draw_from(samples, scale), np.ones((1, 80, 80, 1), bool)
    scores = [float(calibration.crps(samples, np.float32(f) * scale, image, targets)[0]) for f in (0.5, 1, 2)]
    assert scores[1] < min(scores[0], scores[2])


@pytest.mark.parametrize("num_levels", [3, 1000])  # 3: most values share their rank with others
def test_rank_correlation_is_that_of_scipy(num_levels):
    generator = np.random.default_rng(0)
    uncertainty = generator.integers(num_levels, size=SHAPE).astype(np.float32)
    error = np.round(uncertainty + generator.normal(scale=0.5, size=SHAPE) * num_levels).astype(np.float32)
    targets = generator.random((*SHAPE[:3], 1)) < 0.5
    expected = [
        stats.spearmanr(u[selected].ravel(), e[selected].ravel()).statistic
        for u, e, selected in zip(uncertainty, error, targets[..., 0], strict=True)
    ]
    error = np.where(targets, error, np.float32(np.nan))
    for function in (calibration.rank_correlation, jax.jit(calibration.rank_correlation)):
        result = function(uncertainty, error, targets)
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


def test_rank_correlation_without_order_is_zero():
    values = np.random.default_rng(0).random(SHAPE, np.float32)
    everywhere = np.ones((*SHAPE[:3], 1), bool)
    np.testing.assert_allclose(calibration.rank_correlation(values, 3 * values**2, everywhere), 1, rtol=1e-5)
    np.testing.assert_array_equal(calibration.rank_correlation(np.ones_like(values), values, everywhere), 0)
    np.testing.assert_array_equal(calibration.rank_correlation(values, values, ~everywhere), 0)
    with pytest.raises(AssertionError):
        calibration.rank_correlation(values, values[:1], everywhere)
    with pytest.raises(AssertionError):
        calibration.rank_correlation(values, values, everywhere[..., 0])


def scores(samples, scale, image, targets):
    probabilities = calibration.probability_integral_transform(samples, scale, image)
    return (
        calibration.coverage(probabilities, targets, calibration.LEVELS),
        calibration.crps(samples, scale, image, targets),
    )


def test_only_target_pixels_count():
    samples, scale, image, targets = random_mixture(3)
    spoiled = np.where(targets, image, np.float32(np.nan))
    for result, expected in zip(
        scores(samples, scale, spoiled, targets), scores(samples, scale, image, targets), strict=True
    ):
        assert np.all(np.isfinite(expected))
        np.testing.assert_array_equal(result, expected)
    others = scores(samples, scale, image, ~targets)
    assert np.all(np.asarray(others[1]) != np.asarray(scores(samples, scale, image, targets)[1]))


def test_an_image_without_target_pixels_scores_zero():
    samples, scale, image, targets = random_mixture(3)
    targets[1] = False
    coverage, crps = (np.asarray(score) for score in scores(samples, scale, image, targets))
    np.testing.assert_array_equal(coverage[1], np.zeros(len(calibration.LEVELS)))
    assert crps[1] == 0
    assert np.all(coverage[[0, 2], -1] > 0) and np.all(crps[[0, 2]] > 0)


def test_jit_equals_no_jit():
    inputs = random_mixture(3)
    for compiled, plain in zip(jax.jit(scores)(*inputs), scores(*inputs), strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("broken", ["rank", "scale", "image", "batch", "channels", "bytes"])
def test_pit_and_crps_refuse_wrong_shapes_and_dtypes(broken):
    samples, scale, image, targets = random_mixture(3)
    match broken:
        case "rank":
            samples, scale = samples[0], scale[0]
        case "scale":
            scale = scale[:1]
        case "image":
            image = image[:, :-1]
        case "batch":
            image = image[:1]
        case "channels":
            image = image[..., :1]
        case "bytes":
            image = np.zeros(image.shape, np.uint8)
    with pytest.raises(AssertionError):
        calibration.probability_integral_transform(samples, scale, image)
    with pytest.raises(AssertionError):
        calibration.crps(samples, scale, image, targets)


@pytest.mark.parametrize("broken", ["rank", "batch", "channels", "numbers"])
def test_coverage_and_crps_refuse_wrong_targets(broken):
    samples, scale, image, targets = random_mixture(3)
    targets = {
        "rank": targets[..., 0],
        "batch": targets[:1],
        "channels": np.repeat(targets, 2, axis=-1),
        "numbers": targets.astype(np.float32),
    }[broken]
    with pytest.raises(AssertionError):
        calibration.crps(samples, scale, image, targets)
    with pytest.raises(AssertionError):
        calibration.coverage(jnp.zeros(SHAPE), targets, calibration.LEVELS)
