"""How large a picture may be at its own size."""

import dataclasses

import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.inference import limits
from ifanp_jax.inference.limits import Limits
from tests import tiny
from tests.helpers import left_half, random_image

GIBIBYTE = 2**30


def check(model, size, **options):
    limits.check_own_size(model, (8, 8, 1), size, Limits(**options))


def test_the_memory_is_what_the_model_says():
    model = tiny.make_model("point_np.ANP")
    needed = model.completion_bytes((64, 64))
    check(model, (64, 64), num_bytes=needed)
    with pytest.raises(UserError, match=r"64x64 pixels .*GiB of memory where .*--size=trained"):
        check(model, (64, 64), num_bytes=needed - 1)


def test_attention_on_a_large_picture_is_refused_for_its_time_and_points_alone_are_not():
    given = {"num_bytes": 16 * GIBIBYTE, "num_operations": 8e12}
    check(tiny.make_model("point_np.ANP"), (256, 256), **given)
    with pytest.raises(UserError, match="TFLOP"):
        check(tiny.make_model("point_np.ANP"), (1024, 1024), **given)
    check(tiny.make_model("point_np.CNP"), (1024, 1024), **given)


def test_the_operations_are_counted_for_the_model():
    model = tiny.make_model("image_np.IFANP")
    needed = limits.count_operations(model, (8, 8, 1), (64, 64))
    assert needed > 4**4 * limits.count_operations(model, (8, 8, 1), (16, 16)) / 2  # attention: 4^4 times
    check(model, (64, 64), num_operations=needed)
    with pytest.raises(UserError, match=r"64x64 pixels .*TFLOP where .*--size=trained"):
        check(model, (64, 64), num_operations=needed - 1)


def test_the_trained_size_is_never_too_large(model):
    small = dataclasses.replace(model, limits=Limits(num_bytes=1, num_operations=1))
    small.complete(random_image(8, 8), left_half(8, 8), num_samples=1)
    with pytest.raises(UserError, match="9x8 pixels"):
        small.complete(random_image(9, 8), left_half(9, 8), num_samples=1, size="own")
    result = small.complete(random_image(300, 300), left_half(300, 300), num_samples=1, size="trained")
    assert result.mean.shape == (300, 300, 1)


def test_a_model_of_one_size_says_so_before_anything_is_compiled(make_model):
    model = dataclasses.replace(make_model("vae.VAE"), variables=None)  # it could not even be traced
    with pytest.raises(UserError, match=r"11x14 pixels .* trained on, 8x8.*--size=trained"):
        model.complete(random_image(11, 14), np.ones((11, 14), bool), size="own")
