"""What size="auto" chooses."""

import logging

import numpy as np
import pytest

from ifanp_jax.inference import sizes
from ifanp_jax.inference.limits import Limits
from tests import tiny
from tests.helpers import left_half, random_image, random_mask


def scattered(height, width):
    return random_mask(1, height, width, 1)


def hole(height, width):
    return left_half(height, width)[None, ..., None]


@pytest.mark.parametrize(
    ("name", "mask", "limits", "how", "reason"),
    [
        ("image_np.IFANP", hole(8, 8), {}, "own", "have this size, 8x8"),
        ("image_np.IFANP", scattered(20, 30), {}, "own", "small enough"),
        ("image_np.IFANP", hole(20, 30), {}, "trained", "15 pixels from the nearest observed one"),
        ("image_np.IFANP", scattered(20, 30), {"num_operations": 1}, "trained", "would cost this model"),
        ("vae.VAE", scattered(8, 9), {}, "trained", "does not take 8x9 pixels"),
        ("multiscale_np.MultiscaleNP", scattered(8, 9), {}, "tiles", "any size"),
        ("multiscale_np.MultiscaleNP", scattered(8, 8), {}, "own", "have this size"),
    ],
)
def test_what_suits_picture_and_model(name, mask, limits, how, reason):
    fields = {"latent_dim": 0} if name.startswith("multiscale_np") else {}
    choice = sizes.choose(tiny.make_model(name, **fields), (8, 8, 1), mask, Limits(**limits))
    assert choice.how == how and reason in choice.reason


def test_a_latent_variable_is_one_for_the_whole_picture():
    model = tiny.make_model("multiscale_np.MultiscaleNP", latent_dim=4)
    assert sizes.choose(model, (8, 8, 1), scattered(20, 30), Limits()).how == "own"


def test_the_choice_is_logged_and_taken(model, caplog):
    image, mask = random_image(20, 30), left_half(20, 30)
    with caplog.at_level(logging.INFO, "ifanp_jax"):
        found = model.complete(image, mask, num_samples=2)
    (record,) = caplog.records
    assert record.getMessage().startswith('Size "auto" is "trained" here: a missing pixel is 15 pixels')
    expected = model.complete(image, mask, num_samples=2, size="trained")
    np.testing.assert_array_equal(found.samples, expected.samples)
