"""At which size a model runs, what a picture may cost, and what is said of one that is untrained."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest

from ifanp_jax import shipped
from ifanp_jax.errors import UserError
from ifanp_jax.inference import sizes, store
from ifanp_jax.inference.sizes import Limits
from tests import tiny
from tests.helpers import left_half, random_image, random_mask

GIBIBYTE = 2**30


def scattered(height, width):
    return random_mask(1, height, width, 1)


def hole(height, width):
    return left_half(height, width)[None, ..., None]


def test_what_suits_picture_and_model():
    flat = {"latent_dim": 0}
    for name, fields, mask, limits, how, reason in (
        ("image_np.IFANP", {}, hole(8, 8), {}, "own", "have this size, 8x8"),
        ("image_np.IFANP", {}, scattered(20, 30), {}, "own", "small enough"),
        ("image_np.IFANP", {}, hole(20, 30), {}, "trained", "15 pixels from the nearest observed one"),
        ("image_np.IFANP", {}, scattered(20, 30), {"num_operations": 1}, "trained", "would cost this model"),
        ("vae.VAE", {}, scattered(8, 9), {}, "trained", "does not take 8x9 pixels"),
        ("multiscale_np.MultiscaleNP", flat, scattered(8, 9), {}, "tiles", "any size"),
        ("multiscale_np.MultiscaleNP", flat, scattered(8, 8), {}, "own", "have this size"),
        # A latent variable is one for the whole picture.
        ("multiscale_np.MultiscaleNP", {"latent_dim": 4}, scattered(20, 30), {}, "own", "small enough"),
    ):
        found, why = sizes.choose(tiny.make_model(name, **fields), (8, 8, 1), mask, Limits(**limits))
        assert found == how and reason in why, (name, mask.shape)


def test_the_choice_is_logged_and_taken(model, caplog):
    image, mask = random_image(20, 30), left_half(20, 30)
    with caplog.at_level(logging.INFO, "ifanp_jax"):
        found = model.complete(image, mask, num_samples=2)
    (record,) = caplog.records
    assert record.getMessage().startswith('Size "auto" is "trained" here: a missing pixel is 15 pixels')
    expected = model.complete(image, mask, num_samples=2, size="trained")
    np.testing.assert_array_equal(found.samples, expected.samples)


def check(model, size, **options):
    sizes.check_own_size(model, (8, 8, 1), size, Limits(**options))


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
    needed = sizes.count_operations(model, (8, 8, 1), (64, 64))
    assert needed > 4**4 * sizes.count_operations(model, (8, 8, 1), (16, 16)) / 2  # attention: 4^4 times
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


def read(name):
    """Configuration and size of the training of a shipped model."""
    record = store.read_record(shipped.find(name))
    return store.to_config(json.loads(record["config"])), tuple(json.loads(record["image_shape"]))


def test_a_picture_much_larger_than_those_of_the_training():
    for name, size, how, warns in (
        ("celeba32_faces", (256, 250), "tiles", True),
        ("celeba32_faces", (256, 250), "own", True),
        ("celeba32_faces", (256, 250), "trained", False),
        ("celeba32_faces", (64, 40), "tiles", False),
        ("celeba32_faces", (65, 40), "tiles", True),
        ("mnist28", (256, 250), "tiles", True),
        ("photos", (256, 250), "tiles", False),
        ("photos", (256, 250), "own", False),
    ):
        config, image_shape = read(name)
        notes = sizes.list_untrained(config, image_shape, random_mask(1, *size), how)
        assert len(notes) == warns
        side, size = ("x".join(map(str, x)) for x in (image_shape[:2], size))
        facts = (f"{side} pixels", config.data.name, f"never on {size}", '"photos"')
        assert all(fact in note for note in notes for fact in facts), notes
    # Squares that are cut at the pictures' own size suit every size.
    config, image_shape = read("celeba32_faces")
    for image_size, warns in ((0, False), (32, True)):
        config.data.update(tile_size=64, image_size=image_size)
        assert bool(sizes.list_untrained(config, image_shape, random_mask(1, 90, 90), "tiles")) == warns


def test_of_a_batch_the_picture_that_is_farthest_from_the_training_counts():
    config, image_shape = read("mnist28")
    config.mask.update(kind="random", fraction=(0.3, 0.9))
    masks = np.ones((3, 28, 28), bool)
    masks[1] = np.arange(28 * 28).reshape(28, 28) == 0
    masks[2] = False
    few, deep = sizes.list_untrained(config, image_shape, masks, "own")
    assert few.startswith("0.1 % of the pixels are observed;")
    assert "a missing pixel is 38 pixels" in deep
    assert sizes.list_untrained(config, image_shape, masks[:1], "own") == []


def test_it_is_logged_and_stands_in_the_result(tiled_model, caplog):
    with caplog.at_level(logging.WARNING, "ifanp_jax"):
        result = tiled_model.complete(random_image(70, 40, 3), np.eye(70, 40) == 0, num_samples=1, rounds=1)
    (note,) = result.untrained
    assert note == caplog.messages[0] and "32x32 pixels and never on 70x40" in note


def test_samples_and_memory_bound_what_goes_into_one_call():
    model = tiny.make_model("point_np.ANP")
    few = Limits(positions_at_once=6 * 64, num_bytes=2**40)
    assert sizes.count_at_once(model, (8, 8), 2, few) == (2, 3)  # 2 samples of 3 images
    assert sizes.count_at_once(model, (8, 8), 9, few) == (6, 1)
    assert sizes.count_at_once(model, (80, 80), 9, few) == (1, 1)
    cost = model.completion_bytes((8, 8))
    assert sizes.count_at_once(model, (8, 8), 2, Limits(num_bytes=2 * 5 * cost)) == (2, 5)


def test_the_operations_that_are_allowed_are_those_of_the_device(monkeypatch):
    model = tiny.make_model("point_np.ANP")
    for backend, allowed in (("cpu", 8e12), ("gpu", 8e14), ("tpu", 8e14)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        for factor, is_high in ((0.9, False), (1.1, True)):
            monkeypatch.setattr(sizes, "count_operations", lambda *_, x=factor * allowed: x)
            cost = sizes.find_high_cost(model, (8, 8, 1), (20, 20), Limits(num_bytes=2**50))
            assert bool(cost) == is_high, (backend, factor)
