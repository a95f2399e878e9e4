"""What is said of a picture that a model never saw the like of."""

import logging

import numpy as np
import pytest
from ml_collections import ConfigDict

from ifanp_jax import shipped
from ifanp_jax.inference import advice, model, weights
from tests.helpers import random_image, random_mask


def read(name):
    """Configuration and size of the training of a shipped model."""
    record = weights.list_values(weights.read_record(shipped.find(name)))
    return ConfigDict(record["config"]), tuple(record["image_shape"])


@pytest.mark.parametrize(
    ("name", "size", "how", "warns"),
    [
        ("celeba32_faces", (256, 250), "tiles", True),
        ("celeba32_faces", (256, 250), "own", True),
        ("celeba32_faces", (256, 250), "trained", False),
        ("celeba32_faces", (40, 40), "tiles", False),
        ("mnist28", (256, 250), "tiles", True),
        ("photos", (256, 250), "tiles", False),
        ("photos", (256, 250), "own", False),
    ],
)
def test_a_picture_much_larger_than_those_of_the_training(name, size, how, warns):
    config, image_shape = read(name)
    notes = advice.list_untrained(config, image_shape, random_mask(1, *size), how)
    side = "x".join(str(x) for x in image_shape[:2])
    sentence = (
        f"The model was trained on pictures of {side} pixels ({config.data.name}) and never on 256x250: "
        'bring the picture to that size, or take a model that was trained on crops, such as "photos".'
    )
    assert notes == ([sentence] if warns else [])


@pytest.mark.parametrize(("image_size", "warns"), [(0, False), (32, True)])
def test_squares_cut_at_the_pictures_own_size_suit_every_size(image_size, warns):
    config, _ = read("celeba32_faces")
    config.data.update(tile_size=64, image_size=image_size)
    assert bool(advice.list_untrained(config, (32, 32, 3), random_mask(1, 90, 90), "tiles")) == warns


def test_of_a_batch_the_picture_that_is_farthest_from_the_training_counts():
    config, image_shape = read("mnist28")
    config.mask.update(kind="random", fraction=(0.3, 0.9))
    masks = np.ones((3, 28, 28), bool)
    masks[1] = np.arange(28 * 28).reshape(28, 28) == 0
    masks[2] = False
    few, deep = advice.list_untrained(config, image_shape, masks, "own")
    assert few.startswith("0.1 % of the pixels are observed;")
    assert "a missing pixel is 38 pixels" in deep
    assert advice.list_untrained(config, image_shape, masks[:1], "own") == []


def test_it_is_logged_and_stands_in_the_result(tiled_model, caplog):
    model._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "ifanp_jax"):
        result = tiled_model.complete(random_image(70, 40, 3), np.eye(70, 40) == 0, num_samples=1, rounds=1)
    (note,) = result.untrained
    assert note == caplog.messages[0] and "32x32 pixels and never on 70x40" in note
