"""Masks from files, and the usual mistakes."""

import numpy as np
import pytest
from PIL import Image

from ifanp_jax.completion import mask_files
from ifanp_jax.errors import UserError
from tests.helpers import left_half, random_image

PICTURE = random_image(8, 8, 3)
BLACK_AND_WHITE = left_half(8, 8) * np.uint8(255)


def write(path, array):
    Image.fromarray(array).save(path)
    return path


def test_a_good_mask_raises_no_doubt(tmp_path):
    mask = mask_files.read(write(tmp_path / "m.png", BLACK_AND_WHITE), PICTURE)
    np.testing.assert_array_equal(mask.observed, left_half(8, 8))
    assert mask.warnings == () and mask.origin == str(tmp_path / "m.png")


def test_the_picture_itself_and_grey_are_told(tmp_path):
    (warning,) = mask_files.read(write(tmp_path / "m.png", PICTURE), PICTURE).warnings
    assert "is the picture itself" in warning
    change = np.where(left_half(8, 8), 1, -1)[..., None]  # as another file format makes it
    near = np.clip(PICTURE.astype(int) + change, 0, 255).astype(np.uint8)
    (warning,) = mask_files.read(write(tmp_path / "m.png", near), PICTURE).warnings
    assert "is the picture itself" in warning
    far = (PICTURE // 5 + 200).astype(np.uint8)
    (warning,) = mask_files.read(write(tmp_path / "m.png", far), PICTURE // 5).warnings
    assert "is grey" in warning
    grey = np.where(left_half(8, 8), np.uint8(255), np.uint8(100))
    mask = mask_files.read(write(tmp_path / "m.png", grey), PICTURE)
    assert "50.0 % of the mask" in mask.warnings[0] and "128 count as white" in mask.warnings[0]
    np.testing.assert_array_equal(mask.observed, left_half(8, 8))


def test_a_black_mask_is_not_its_white_picture(tmp_path):
    white = np.full((8, 8, 3), np.uint8(255))
    white[0, 0] = 0
    assert mask_files.read(write(tmp_path / "m.png", np.zeros((8, 8), np.uint8)), white).warnings == ()


def test_a_mask_of_another_size_is_refused_and_a_turned_one_told():
    with pytest.raises(UserError, match=r"4x8 pixels .*8x8: give a mask of the picture's size"):
        mask_files.check_size(np.ones((4, 8), bool), PICTURE)
    with pytest.raises(UserError, match="turned as its EXIF says"):
        mask_files.check_size(np.ones((4, 8), bool), np.ones((8, 4, 3)))


def test_a_brush_on_nothing_is_refused(tmp_path):
    layer = np.zeros((8, 8, 4), np.uint8)
    layer[2:4, 2:4] = 255
    with pytest.raises(UserError, match="has transparent pixels: save it in black and white"):
        mask_files.read(write(tmp_path / "m.png", layer), PICTURE)
    opaque = np.dstack([BLACK_AND_WHITE] * 3 + [np.full((8, 8), np.uint8(255))])
    assert mask_files.read(write(tmp_path / "m.png", opaque), PICTURE).warnings == ()


def test_alpha_that_hides_something_goes_before_a_file_beside(tmp_path):
    write(tmp_path / "a_mask.png", BLACK_AND_WHITE)
    find = mask_files.make_finder("", tmp_path)
    alpha = np.full((8, 8), np.uint8(255))
    assert find("a.png", np.dstack([PICTURE, alpha])).origin == str(tmp_path / "a_mask.png")
    alpha[0, 0] = 0
    mask = find("a.png", np.dstack([PICTURE, alpha]))
    assert mask.origin == "alpha" and mask.observed.sum() == 63
    with pytest.raises(UserError, match=r"no alpha channel .*no b_mask.png beside it.*--mask"):
        find("b.png", PICTURE)


def test_masks_are_no_pictures_to_complete():
    names = ["a.jpg", "a_mask.png", "b_mask.png", "sub/a_mask.png", "c.png"]
    assert mask_files.list_beside(names) == {"a_mask.png"}


def test_the_share():
    for missing, share, warning in (
        (0, "0.0 %", "the answers are the picture itself"),
        (1, "0.01 %", None),
        (1230, "12.3 %", None),
        (9100, "91.0 %", "is the mask inverted? --invert_mask"),
        (9999, "99.990 %", "is the mask inverted? --invert_mask"),
        (10000, "100.0 %", "from nothing: is the mask inverted? --invert_mask"),
    ):
        observed = np.arange(10000).reshape(100, 100) >= missing
        found, warnings = mask_files.describe(observed, "a.png", remedy="--invert_mask")
        assert found == f"{share} of a.png is to be completed."
        assert (warning is None and not warnings) or warning in warnings[0]
