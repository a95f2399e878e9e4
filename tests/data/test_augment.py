"""Crops and flips of training images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.data import augment

IMAGES = jnp.arange(200 * 5 * 5 * 2).reshape(200, 5, 5, 2)


def symmetries(image, flips):
    """The images that one may become."""
    image = np.asarray(image)
    mirrored = [image] if flips == "none" else [image, image[:, ::-1]]
    if flips != "all":
        return mirrored
    upright = [*mirrored, *(one[::-1] for one in mirrored)]
    return upright + [np.swapaxes(one, 0, 1) for one in upright]


@pytest.mark.parametrize(("flips", "count"), [("none", 1), ("horizontal", 2), ("all", 8)])
def test_every_symmetry_is_drawn_and_nothing_else(flips, count):
    flipped = np.asarray(augment.flip(jax.random.key(0), IMAGES, flips))
    drawn = set()
    for before, after in zip(IMAGES, flipped, strict=True):
        same = [index for index, one in enumerate(symmetries(before, flips)) if np.array_equal(one, after)]
        assert len(same) == 1
        drawn.add(same[0])
    assert len(drawn) == count


def test_crops_are_parts_of_their_image_from_everywhere():
    crops = np.asarray(augment.crop_random(jax.random.key(0), IMAGES, 3))
    assert crops.shape == (200, 3, 3, 2)
    starts = set()
    for image, crop in zip(np.asarray(IMAGES), crops, strict=True):
        places = [(i, j) for i in range(3) for j in range(3) if image[i, j, 0] == crop[0, 0, 0]]
        ((i, j),) = places
        np.testing.assert_array_equal(image[i : i + 3, j : j + 3], crop)
        starts.add((i, j))
    assert len(starts) == 9


def test_augment_crops_and_flips_as_asked():
    key = jax.random.key(1)
    np.testing.assert_array_equal(augment.augment(key, IMAGES, crop=0, flips="none"), IMAGES)
    assert augment.augment(key, IMAGES, crop=4, flips="all").shape == (200, 4, 4, 2)
