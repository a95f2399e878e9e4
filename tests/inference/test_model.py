"""Arrays in, answers out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ifanp_jax.errors import UserError
from ifanp_jax.inference import predict
from ifanp_jax.inference.model import Model
from ifanp_jax.inference.options import SIZES
from ifanp_jax.inference.sizes import Limits
from ifanp_jax.models.base import Completion, ImageModel
from tests.helpers import left_half, random_image, random_mask

NAMES = ("samples", "mean", "uncertainty", "raw_samples")
TRACES = []  # of `Echo`


class Echo(ImageModel):
    """Answers with what it is given, the mask or the image; no scale, and nothing is drawn.

    Attributes:
      what: "mask" or "image".
    """

    what: str

    def complete(self, image, mask, *, num_samples):
        TRACES.append(image.shape)
        seen = mask.astype(jnp.float32) if self.what == "mask" else jnp.where(mask, image, 0)
        return Completion(samples=jnp.broadcast_to(seen, (num_samples, *seen.shape)))

    def completion_bytes(self, size):
        return 1


def make_echo(what, image_shape):
    module = Echo(what, channels=image_shape[-1])
    return Model(module=module, variables={}, config=None, step=0, image_shape=image_shape)


def assert_same(first, second, **tolerance):
    for name in NAMES:
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), **tolerance)


@pytest.mark.parametrize("size", SIZES)
def test_forms(model, size):
    for image_shape, mask_shape, batch in (
        ((8, 8), (8, 8), ()),
        ((8, 8, 1), (8, 8, 1), ()),
        ((2, 8, 8, 1), (2, 8, 8, 1), (2,)),
        ((2, 8, 8, 1), (2, 8, 8), (2,)),
        ((2, 8, 8, 1), (8, 8), (2,)),
        ((1, 8, 8, 1), (8, 8, 1), (1,)),
    ):
        image, mask = random_image(*image_shape), random_mask(*mask_shape)
        result = model.complete(image, mask, num_samples=2, size=size)
        assert result.samples.shape == result.raw_samples.shape == (2, *batch, 8, 8, 1)
        assert result.mean.shape == result.uncertainty.shape == (*batch, 8, 8, 1)
        observed = np.broadcast_to(mask if mask.shape[-1] == 1 else mask[..., None], result.mean.shape)
        truth = (image.reshape(result.mean.shape) / np.float32(255))[observed]
        for name in NAMES:
            values = getattr(result, name)
            assert type(values) is np.ndarray and values.dtype == np.float32
            assert values.min() >= 0 and np.isfinite(values).all()
        for kept in (*result.samples, result.mean):
            assert kept.max() <= 1
            np.testing.assert_array_equal(kept[observed], truth)
        assert (result.uncertainty[observed] == 0).all() and (result.uncertainty[~observed] > 0).all()
        assert (result.samples == result.raw_samples)[:, ~observed].all()
        assert (result.raw_samples[:, observed] != truth).any()


def test_uncertainty_is_the_total_deviation(model):
    image, mask = random_image(1, 8, 8, 1) / np.float32(255), random_mask(1, 8, 8, 1)
    result = model.complete(image, mask, num_samples=2, seed=5)
    key = jax.random.fold_in(jax.random.key(5), 0)
    found = predict.complete_batch(key, model.module, model.variables, image, mask, num_samples=2)
    expected = np.sqrt(np.var(found.samples, axis=0) + np.mean(np.square(found.scale), axis=0))
    np.testing.assert_allclose(result.uncertainty, np.where(mask, 0, expected), rtol=1e-3)


def test_without_a_scale_the_uncertainty_is_the_spread_of_the_samples():
    model, image, mask = make_echo("image", (8, 8, 3)), random_image(8, 8, 3), random_mask(8, 8)
    for size in SIZES:
        result = model.complete(image, mask, num_samples=3, size=size)
        assert result.samples.shape == (3, 8, 8, 3) and (result.uncertainty == 0).all()
        np.testing.assert_array_equal(result.raw_samples[0], result.raw_samples[2])


@pytest.mark.parametrize("size", SIZES)
def test_other_sizes_and_unobserved_values_are_never_read(colour_model, size):
    for shape in ((11, 14), (1, 6)):
        image, mask = random_image(*shape, 3), left_half(*shape)
        expected = colour_model.complete(image, mask, num_samples=2, size=size)
        assert expected.samples.shape == (2, *shape, 3)
        truth = np.stack([image[mask] / np.float32(255)] * 2)
        np.testing.assert_array_equal(expected.samples[:, mask], truth)
        assert all(np.isfinite(getattr(expected, name)).all() for name in NAMES)
        for value in (np.nan, np.inf, -7.0):
            hidden = np.where(mask[..., None], image / np.float32(255), np.float32(value))
            assert_same(colour_model.complete(hidden, mask, num_samples=2, size=size), expected, rtol=0)


def test_uint8_equals_float_and_the_trained_size_of_a_trained_image_is_its_own(model):
    image, mask = random_image(8, 8), random_mask(8, 8)
    expected = model.complete(image, mask, num_samples=2)
    for dtype in (np.float32, np.float64):
        scaled = (image / 255).astype(dtype)
        assert_same(model.complete(scaled, mask, num_samples=2), expected, rtol=1e-4, atol=1e-5)
    trained = model.complete(image, mask, num_samples=2, size="trained")
    assert_same(trained, expected, rtol=1e-6, atol=1e-6)


def test_trained_size_sees_the_mean_of_the_observed_pixels(model):
    blocks, seen = random_image(8, 8), left_half(8, 8)
    image = blocks.repeat(2, axis=0).repeat(2, axis=1)
    mask = seen.repeat(2, axis=0).repeat(2, axis=1)
    mask[::2, :8:2] = False  # three quarters of each block remain
    small = model.complete(blocks, seen, num_samples=2)
    large = model.complete(image, mask, num_samples=2, size="trained")
    upscaled = np.asarray(Image.fromarray(small.mean[..., 0]).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(large.mean[~mask][:, 0], upscaled[~mask], atol=1e-5)
    assert (large.uncertainty[~mask] > 0).all()


def test_trained_size_counts_exactly_a_tenth_as_observed():
    mask = np.zeros((20, 20), bool)
    mask[0, :10] = True  # 10 of the 100 pixels of the first block
    mask[10, :9] = True  # 9 of those of the block below it
    image = np.where(mask, np.float32(0.3), np.float32(0))

    def corners(what):
        result = make_echo(what, (2, 2, 1)).complete(image, mask, num_samples=1, size="trained")
        return result.raw_samples[0, ::19, ::19, 0]  # the interpolation is constant there

    np.testing.assert_array_equal(corners("mask"), [[1, 0], [0, 0]])
    np.testing.assert_allclose(corners("image"), [[0.3, 0], [0, 0]], rtol=1e-6)
    rows = np.broadcast_to((np.arange(80) % 10 == 0)[:, None], (80, 96))
    result = make_echo("mask", (8, 8, 1)).complete(rows.astype(np.float32), rows, size="trained")
    assert (result.raw_samples == 1).all()


def test_trained_size_warns_where_no_coarse_pixel_is_observed(model, caplog):
    mask = np.zeros((64, 64), bool)
    mask[::16, ::16] = True
    model.complete(random_image(64, 64), mask, num_samples=2, size="trained")
    assert "nothing of the image is used" in caplog.text


def test_masks_at_the_ends_and_seeds(model):
    image = random_image(8, 8)
    empty = model.complete(image, np.zeros((8, 8), bool), num_samples=2)
    assert all(np.isfinite(getattr(empty, name)).all() for name in NAMES)
    full = model.complete(image, np.ones((8, 8), bool), num_samples=2)
    np.testing.assert_array_equal(full.mean[..., 0], image / np.float32(255))
    first, again, other = (model.complete(image, left_half(8, 8), num_samples=2, seed=x) for x in (3, 3, 4))
    assert_same(again, first, rtol=0)
    assert (first.raw_samples != other.raw_samples).any()
    assert (first.raw_samples[0] != first.raw_samples[1]).any()


def test_neighbours_and_the_size_of_calls_do_not_matter(model):
    images, masks = random_image(3, 8, 8, 1), random_mask(3, 8, 8, 1)
    whole = model.complete(images, masks, num_samples=2)
    alone = model.complete(images[1], masks[1], num_samples=2)
    np.testing.assert_allclose(alone.samples, whole.samples[:, 1], atol=1e-5)
    np.testing.assert_allclose(alone.uncertainty, whole.uncertainty[1], atol=1e-5)

    def complete(**limits):
        return dataclasses.replace(model, limits=Limits(**limits)).complete(images, masks, num_samples=2)

    assert_same(complete(positions_at_once=2 * 2 * 64), whole, rtol=1e-4, atol=1e-5)
    assert_same(complete(num_bytes=1), whole, rtol=1e-4, atol=1e-5)
    by_sample = complete(positions_at_once=64)
    assert by_sample.samples.shape == (2, 3, 8, 8, 1)
    assert len({sample.tobytes() for sample in by_sample.raw_samples}) == 2


def test_a_second_call_compiles_nothing():
    model, image, mask = make_echo("image", (7, 9, 1)), random_image(7, 9), random_mask(7, 9)
    TRACES.clear()
    model.complete(image, mask, num_samples=2)
    model.complete(image, ~mask, num_samples=2, seed=9)
    assert TRACES == [(1, 7, 9, 1)]


IMAGE, MASK = np.zeros((8, 8), np.uint8), np.ones((8, 8), bool)


def test_bad_arguments(model):
    cases = [
        (np.zeros((8, 8, 3), np.uint8), MASK, {}, r"has shape \(8, 8, 3\) but this model takes \(H, W, 1\)"),
        (np.zeros((2, 1, 8, 8, 1), np.uint8), MASK, {}, "has shape"),
        (np.zeros((0, 8, 1), np.uint8), np.ones((0, 8), bool), {}, "at least one pixel"),
        (IMAGE.astype(np.int32), MASK, {}, "holds int32 but must be uint8, or float"),
        (IMAGE.astype(bool), MASK, {}, "holds bool but"),
        (np.full((8, 8), 1.5), MASK, {}, "lie between 1.5 and 1.5 but must lie between 0 and 1"),
        (np.full((8, 8), -0.1), MASK, {}, "between 0 and 1"),
        (np.full((8, 8), np.nan), MASK, {}, "is NaN: mark its pixel as unobserved"),
        (IMAGE, MASK.astype(np.uint8), {}, "mask holds uint8 but must be bool"),
        (IMAGE, np.ones((8, 9), bool), {}, r"mask has shape \(8, 9\) but for this image it must be \(8, 8\)"),
        (IMAGE, np.ones((1, 8, 8, 1), bool), {}, "mask has shape"),
        (np.zeros((2, 8, 8, 1)), np.ones((3, 8, 8, 1), bool), {}, r"or \(2, 8, 8, 1\)"),
        (IMAGE, MASK, {"num_samples": 0}, "num_samples is 0 but must be"),
        (IMAGE, MASK, {"num_samples": 2.0}, "num_samples is 2.0 but must be"),
        (IMAGE, MASK, {"seed": -1}, "seed is -1 but must be"),
        (IMAGE, MASK, {"size": "huge"}, "size is 'huge' but must be"),
        (IMAGE, MASK, {"rounds": 0}, "rounds is 0 but must be a whole number of at least 1"),
        (IMAGE, MASK, {"rounds": 2.0}, "rounds is 2.0 but must be"),
        (IMAGE, MASK, {"temperature": -0.1}, "temperature is -0.1 but must be a number of at least 0"),
        (IMAGE, MASK, {"temperature": float("nan")}, "temperature is nan but"),
        (IMAGE, MASK, {"temperature": "hot"}, "temperature is 'hot' but"),
        (IMAGE, MASK, {"uncertainty": "both"}, 'uncertainty is \'both\' but must be "heads" or "samples"'),
    ]
    for image, mask, options, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            model.complete(image, mask, **options)
        assert str(caught.value).count("\n") == 0
