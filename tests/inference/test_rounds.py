"""Samples by rounds, as a user asks for them."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.inference import autoregressive
from ifanp_jax.inference.model import Model
from ifanp_jax.inference.options import SIZES
from ifanp_jax.inference.sizes import Limits
from ifanp_jax.models.base import Completion, ImageModel
from tests import tiny
from tests.helpers import left_half, random_image, random_mask
from tests.inference.conftest import TILED_FIELDS

IMAGE, MASK = random_image(9, 11, 3), random_mask(9, 11)
TRACES = []  # of `Noisy`


class Noisy(ImageModel):
    """Answers the mean of the context with a scale of 0.1, and remembers what it is traced with."""

    @nn.compact
    def __call__(self, image, mask, *, train):
        return self.complete(image, mask, num_samples=1)

    def complete(self, image, mask, *, num_samples):
        TRACES.append(image.shape)
        count = mask.sum(axis=(1, 2), keepdims=True)
        mean = jnp.where(mask, image, 0).sum(axis=(1, 2), keepdims=True) / count
        samples = jnp.broadcast_to(mean, (num_samples, *image.shape))
        return Completion(samples=samples, scale=jnp.full_like(samples, 0.1))

    def completion_bytes(self, size):
        return 1


def make_noisy(image_shape):
    module = Noisy(channels=image_shape[-1])
    return Model(module=module, variables={}, config=None, step=0, image_shape=image_shape)


@pytest.fixture(scope="module")
def sharp(make_model):
    """A model with a covariance, whose samples come by rounds."""
    model = make_model("multiscale_np.MultiscaleNP", image_shape=(8, 8, 3), **TILED_FIELDS)
    return dataclasses.replace(model, limits=Limits(tile_sides=(32,)))


@pytest.mark.parametrize("size", SIZES)
def test_samples_differ_around_the_direct_mean(sharp, size):
    options = {"num_samples": 4, "size": size}
    found = sharp.complete(IMAGE, MASK, rounds=3, **options)
    direct = sharp.complete(IMAGE, MASK, rounds=1, **options)
    assert found.samples.shape == (4, 9, 11, 3) and found.samples.dtype == np.float32
    assert found.samples.min() >= 0 and found.samples.max() <= 1
    np.testing.assert_array_equal(found.samples[:, MASK], np.stack([IMAGE[MASK] / np.float32(255)] * 4))
    assert found.samples[:, ~MASK].std(axis=0).mean() > 0.02 and np.ptp(direct.samples, axis=0).max() == 0
    np.testing.assert_array_equal(found.mean, direct.mean)
    np.testing.assert_array_equal(found.uncertainty, direct.uncertainty)
    by_samples = sharp.complete(IMAGE, MASK, rounds=3, uncertainty="samples", **options)
    np.testing.assert_array_equal(by_samples.samples, found.samples)
    if size == "own":
        np.testing.assert_array_equal(found.raw_samples[:, ~MASK], found.samples[:, ~MASK])
        np.testing.assert_array_equal(found.raw_samples[:, MASK], direct.raw_samples[:, MASK])
        expected = np.sqrt(np.square(found.samples - found.mean).mean(axis=0))
        np.testing.assert_allclose(by_samples.uncertainty, expected, rtol=1e-5)
    else:
        assert (by_samples.uncertainty[~MASK] != found.uncertainty[~MASK]).any()


def test_neighbours_and_the_size_of_calls_do_not_matter():
    model, images, masks = make_noisy((8, 8, 1)), random_image(3, 8, 8, 1), random_mask(3, 8, 8, 1)
    options = {"num_samples": 2, "rounds": 3, "seed": 4}
    batch = model.complete(images, masks, **options)
    alone = model.complete(images[1], masks[1], **options)
    np.testing.assert_allclose(alone.samples, batch.samples[:, 1], atol=1e-5)
    small = dataclasses.replace(model, limits=Limits(positions_at_once=2 * 64))
    np.testing.assert_allclose(small.complete(images, masks, **options).samples, batch.samples, atol=1e-5)
    other = model.complete(images[1], masks[1], **options | {"seed": 5})
    assert (other.samples != alone.samples).any()


def test_temperature_multiplies_the_noise_and_one_program_serves_all():
    model, image, mask = make_noisy((8, 8, 1)), np.full((8, 8), 0.5), left_half(8, 8)
    model.complete(image, mask, num_samples=2, rounds=2)
    TRACES.clear()
    full, half, none = (
        model.complete(image, mask, num_samples=2, rounds=2, temperature=t).samples - 0.5 for t in (1, 0.5, 0)
    )
    assert np.abs(none).max() < 1e-6 and full.std() > 0.01
    np.testing.assert_allclose(half, full / 2, atol=1e-6)
    model.complete(1 - image, ~mask, num_samples=2, rounds=5, seed=9)
    assert TRACES == []


def test_full_and_empty_masks(sharp):
    full = sharp.complete(IMAGE, np.ones((9, 11), bool), num_samples=2, rounds=3)
    np.testing.assert_array_equal(full.samples[1], IMAGE / np.float32(255))
    empty = sharp.complete(IMAGE, np.zeros((9, 11), bool), num_samples=2, rounds=3)
    assert np.isfinite(empty.samples).all()


def test_default_rounds(sharp):
    for fields, channels, expected in (
        ({}, 1, 1),
        ({"likelihood": "per_pixel"}, 1, 16),
        ({"likelihood": "per_pixel"}, 3, 1),  # independent channels: coloured noise
        ({"likelihood": "per_image", "has_covariance": True}, 3, 16),
        ({"likelihood": "per_image", "scale_weight": 0.0}, 1, 1),
    ):
        module = tiny.make_model("image_np.IFANP", channels=channels, **fields)
        assert autoregressive.default_rounds(module) == expected, fields
    default, sixteen = (sharp.complete(IMAGE, MASK, num_samples=1, **x) for x in ({}, {"rounds": 16}))
    np.testing.assert_array_equal(default.samples, sixteen.samples)
    assert default.rounds == 16


def test_a_model_without_a_scale_has_one_round(make_model):
    model = make_model(likelihood="per_image", scale_weight=0.0)
    model.complete(random_image(8, 8), left_half(8, 8), num_samples=1, rounds=1)
    with pytest.raises(UserError, match=r"rounds is 2 but .* without a scale.*--rounds=1"):
        model.complete(random_image(8, 8), left_half(8, 8), num_samples=1, rounds=2)
