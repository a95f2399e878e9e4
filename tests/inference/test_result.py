"""Intervals of a completion."""

import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.inference.result import CompletionResult


def make_result(distribution="normal", uncertainty=0.01):
    mean = np.full((200, 200, 1), 0.5, np.float32)
    deviation = None if uncertainty is None else np.full_like(mean, uncertainty)
    return CompletionResult(mean[None], mean, deviation, mean[None], distribution=distribution)


def test_an_interval_holds_its_share_of_the_values():
    for distribution in ("normal", "student_t"):
        generator, result = np.random.default_rng(0), make_result(distribution)
        noise = generator.standard_t(4, result.mean.shape) / np.sqrt(2)
        if distribution == "normal":
            noise = generator.normal(size=result.mean.shape)
        truth = result.mean + result.uncertainty * noise
        for level in (0.5, 0.95):
            low, high = result.interval(level)
            assert low.dtype == high.dtype == np.float32
            share = np.mean((low <= truth) & (truth <= high))
            assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / truth.size)


def test_intervals_stay_in_the_range_of_the_image_and_what_has_none_says_so():
    low, high = make_result(uncertainty=5.0).interval(0.9)
    assert low.min() == 0 and high.max() == 1
    with pytest.raises(UserError, match=r"level is 1 but must lie between 0 and 1"):
        make_result().interval(1)
    with pytest.raises(UserError, match="knows no uncertainty"):
        make_result(uncertainty=None).interval(0.9)
