"""The sheet that shows all."""

import numpy as np
import pytest

from ifanp_jax.completion import preview
from tests.helpers import left_half, random_image


def draw(height, width, mask, **others):
    names = ("completed", "mean", "sample_1", "sample_2")
    drawn = {name: random_image(height, width, 3, seed=index) for index, name in enumerate(names)}
    drawn["uncertainty"] = random_image(height, width, 1)
    return preview.draw(drawn | others, mask)


def count(sheet, colour):
    return int((sheet == np.uint8(colour)).all(axis=-1).sum())


def test_the_context_shows_what_is_missing():
    sheet = draw(40, 60, left_half(40, 60))
    assert sheet.dtype == np.uint8 and sheet.shape[-1] == 3
    factor = preview.SMALLEST // 60
    assert count(sheet, preview.MISSING) == 40 * 30 * factor**2


def test_equal_answers_are_shown_once():
    image, mask = random_image(200, 200, 3), left_half(200, 200)
    uncertainty = random_image(200, 200, 1)
    same = {"mean": image, "sample_1": image, "sample_2": image.copy(), "uncertainty": uncertainty}
    other = same | {"sample_1": random_image(200, 200, 3, seed=4)}
    assert preview.draw(same, mask).shape[1] < preview.draw(other, mask).shape[1]


def test_a_small_hole_in_a_large_picture_is_shown_large():
    mask = np.ones((900, 1200), bool)
    mask[400:440, 500:550] = False
    sheet = draw(900, 1200, mask)
    assert count(sheet, preview.MISSING) >= 40 * 50 and max(sheet.shape) < 1600


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_every_kind_of_picture(dtype, channels):
    values = np.full((20, 30, channels if dtype == np.uint8 else 1), np.iinfo(dtype).max, dtype)
    for observed in (True, False):
        sheet = preview.draw({"mean": values, "nearest": values}, np.full((20, 30), observed))
        assert sheet.ndim == 3 and (count(sheet, preview.MISSING) > 0) != observed
