"""Crops and flips of training images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from ifanp_jax.data import augment
from ifanp_jax.errors import UserError

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


def ramp(side):
    """A picture whose two channels are the place of each pixel: 2 values a pixel."""
    rows, columns = np.mgrid[:side, :side]
    return 2 * np.stack([rows, columns], axis=-1).astype(np.uint8)


def test_scaled_crops_are_reduced_squares_of_the_image():
    side, num_images = 8, 200
    images = jnp.broadcast_to(jnp.asarray(ramp(32)), (num_images, 32, 32, 2))
    crops = jax.jit(lambda key: augment.crop_scaled(key, images, side, (0.25, 1.0)))(jax.random.key(0))
    assert crops.shape == (num_images, side, side, 2) and crops.dtype == np.uint8
    # Of the ramp each crop keeps the slope over the scale; the outermost pixels see the border of the image.
    middle = np.asarray(crops, float)[:, 2:-2, 2:-2]
    down, right = (np.ptp(middle[..., axis], axis=(1, 2)) / 2 / (side - 5) for axis in (0, 1))
    np.testing.assert_allclose(down, right, atol=0.4)
    assert 0.8 < down.min() < 1.4 and 3.6 < down.max() < 4.3
    assert abs(down.mean() - 2.5) < 0.2  # the side of the square that is cut is uniform in 8 to 32
    assert (np.ptp(middle[..., 0], axis=2) <= 1).all()  # a row stays one


def test_a_scaled_crop_at_full_size_is_the_crop_and_smooth_images_keep_their_mean():
    image = np.random.default_rng(0).integers(0, 256, (1, 6, 6, 3), dtype=np.uint8)
    crop = augment.crop_scaled(jax.random.key(0), jnp.asarray(image), 6, (1.0, 1.0))
    np.testing.assert_array_equal(crop, image)
    grey = jnp.full((5, 16, 16, 1), 77, jnp.uint8)
    np.testing.assert_array_equal(augment.crop_scaled(jax.random.key(1), grey, 4, (0.25, 0.5)), 77)


def test_augment_takes_a_scale():
    images = IMAGES.astype(jnp.uint8)
    crops = augment.augment(jax.random.key(1), images, crop=4, flips="all", scales=(0.8, 1.0))
    assert crops.shape == (200, 4, 4, 2) and crops.dtype == jnp.uint8
    whole = augment.augment(jax.random.key(1), images, crop=4, flips="none", scales=(1.0, 1.0))
    np.testing.assert_array_equal(whole, augment.augment(jax.random.key(1), images, crop=4, flips="none"))


def check_scales(scales, *, crop):
    augment.check_scales(ConfigDict({"random_scale": scales, "random_crop": crop}))


@pytest.mark.parametrize("scales", [(0.0, 1.0), (0.5, 1.5), (1.0, 0.5), (0.5,), ("a", 1.0)])
def test_an_impossible_scale_of_crops_is_refused(scales):
    with pytest.raises(UserError, match=r"config\.data\.random_scale is"):
        check_scales(scales, crop=4)


def test_a_scale_without_crops_is_refused():
    with pytest.raises(UserError, match=r"config\.data\.random_crop"):
        check_scales((0.5, 1.0), crop=0)
    check_scales((0.5, 1.0), crop=4)
    check_scales(augment.UNSCALED, crop=0)
