"""Classical methods, called like a model."""

import sys

import numpy as np
import pytest

from ifanp_jax.classical import interpolation
from ifanp_jax.completion import methods
from ifanp_jax.errors import UserError
from ifanp_jax.inference.options import CompletionOptions
from tests.helpers import random_image, random_mask


@pytest.mark.parametrize("name", ["nearest", "biharmonic", "patch_match"])
def test_a_method_completes_and_keeps_what_is_observed(name):
    image, mask = random_image(20, 24, 3), random_mask(20, 24)
    result = methods.ClassicalMethod(name).complete(image, mask, num_samples=4)
    assert result.samples.shape == (1, 20, 24, 3) and result.uncertainty is None
    np.testing.assert_array_equal(result.mean[mask], (image / np.float32(255))[mask])
    if name != "patch_match":
        expected = interpolation.complete(name, (image / 255).astype(np.float32), mask[..., None])
        np.testing.assert_allclose(result.mean, expected, atol=1e-6)


def test_only_the_part_around_the_hole_is_looked_at():
    image, mask = random_image(300, 400, 3), np.ones((300, 400), bool)
    mask[200:204, 100:107] = False
    cubic = methods.ClassicalMethod("cubic").complete(image, mask)  # all 120 000 pixels would take long
    assert (cubic.mean != image / np.float32(255)).any(axis=-1).sum() == 28
    full = methods.ClassicalMethod("cubic").complete(image, np.ones((300, 400), bool))
    np.testing.assert_array_equal(full.mean, image / np.float32(255))


def test_an_unknown_method_is_one_sentence():
    with pytest.raises(
        UserError, match=r"Unknown method 'spline': choose one of nearest, .*telea.*patch_match"
    ):
        methods.ClassicalMethod("spline")


@pytest.mark.parametrize(
    ("asked", "flag"),
    [
        ({"fill": "montage"}, "--fill=montage"),
        ({"grain": True}, "--grain"),
        ({"num_completed": 2}, "--num_completed"),
    ],
)
def test_what_is_put_into_a_models_estimate_is_refused(asked, flag):
    method = methods.ClassicalMethod("nearest")
    with pytest.raises(UserError, match=f"{flag} works with a model: leave out --method=nearest"):
        method.with_rounds(CompletionOptions(**asked))
    assert method.with_rounds(CompletionOptions(fill="model", grain=False)).rounds == 1


def test_a_method_that_cannot_run_is_refused_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="fsr needs OpenCV"):
        methods.ClassicalMethod("fsr")
