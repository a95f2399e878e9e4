"""The bootstrap interval of a mean."""

import numpy as np
import pytest

from ifanp_jax import metrics


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    samples = generator.normal(25.0, 3.0, size=(200, 50))
    intervals = [metrics.bootstrap_interval(sample, seed=0, num_resamples=300) for sample in samples]
    covered = np.mean([low <= 25.0 <= high for low, high in intervals])
    assert 0.88 <= covered <= 0.99


def test_bootstrap_interval_is_close_to_the_normal_one():
    values = np.random.default_rng(1).normal(20.0, 2.0, size=400)
    low, high = metrics.bootstrap_interval(values, seed=3)
    half_width = 1.96 * values.std() / np.sqrt(values.size)
    np.testing.assert_allclose(
        [low, high], [values.mean() - half_width, values.mean() + half_width], atol=0.03
    )
    assert (low, high) == metrics.bootstrap_interval(values, seed=3)
    narrow = metrics.bootstrap_interval(values, seed=3, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_bootstrap_interval_of_one_value_is_that_value():
    assert metrics.bootstrap_interval(np.array([7.0]), seed=0) == (7.0, 7.0)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((2, 2))])
def test_bootstrap_interval_without_a_vector_raises(values):
    with pytest.raises(ValueError, match="needs"):
        metrics.bootstrap_interval(values, seed=0)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_bootstrap_interval_with_a_wrong_level_raises(level):
    with pytest.raises(ValueError, match="level"):
        metrics.bootstrap_interval(np.zeros(3), seed=0, level=level)
