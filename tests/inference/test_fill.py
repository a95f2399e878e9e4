"""What a person gets: parts of the picture in deep holes, the mean with grain elsewhere."""

import dataclasses
import logging

import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.inference import fill
from ifanp_jax.inference.options import CompletionOptions


def make_damage(size=(120, 160)):
    """A picture that repeats, and a mask with a hole, a scratch that runs into it, and a thin mark."""
    tile = np.random.default_rng(0).uniform(0.3, 0.7, (10, 16, 3)).astype(np.float32)
    picture, known = np.tile(tile, (size[0] // 10, size[1] // 16, 1)), np.ones(size, bool)
    known[40:70, 60:90] = False
    known[54:57, 90:150] = False
    known[10:13, 20:60] = False
    return picture, known


def complete(picture, known, *, depth=8.0, with_grain=False, mean=None, seed=0):
    mean = np.where(known[..., None], picture, np.float32(0.5)) if mean is None else mean
    deviation = np.where(known[..., None], 0, np.full_like(picture, 0.1))
    return fill.complete(mean, known, deviation, depth=depth, with_grain=with_grain, seed=seed)


def test_a_hole_is_deep_and_a_scratch_into_it_is_not():
    _, known = make_damage()
    deep = fill.find_deep(known, 8)
    assert deep[40:70, 60:90].all() and not deep[known].any()
    assert not deep[54:57, 110:].any() and not deep[10:13].any()
    assert not fill.find_deep(known, 16).any()
    # At a side of the picture the nearest known pixel is further away.
    torn = np.ones((40, 40), bool)
    torn[:12, :12] = False
    assert fill.find_deep(torn, 11)[:12, :12].all() and not fill.find_deep(torn, 13).any()


def test_deep_holes_show_the_picture_and_the_rest_is_the_mean_to_the_bit(caplog):
    picture, known = make_damage()
    caplog.set_level(logging.INFO)
    found = complete(picture, known)
    deep = fill.find_deep(known, 8)
    assert np.sqrt(np.square(found.image - picture)[deep].mean()) < 0.05  # 0.16 apart by chance
    np.testing.assert_array_equal(found.image[~known & ~deep], 0.5)
    np.testing.assert_array_equal(found.image[known], picture[known])
    share = deep.sum() / (~known).sum()
    assert f"{share:.0%}" in caplog.text and "8 pixels" in caplog.text and "--fill=model" in caplog.text


def test_without_depth_and_grain_the_mean_itself_comes_back():
    picture, known = make_damage()
    mean = np.where(known[..., None], picture, np.float32(0.5))
    assert complete(picture, known, depth=None, mean=mean).image is mean
    everything = np.ones_like(known)
    assert complete(picture, everything, mean=mean, with_grain=True).image is mean
    assert complete(picture, ~everything, mean=mean, with_grain=True).image is mean


def test_grain_is_added_where_nothing_is_copied():
    picture, known = make_damage()
    found = complete(picture, known, with_grain=True).image
    thin = ~known & ~fill.find_deep(known, 8)
    assert found[thin].std() > 0.05
    np.testing.assert_array_equal(found[known], picture[known])


def test_scattered_pixels_are_not_copied_from(caplog):
    picture, _ = make_damage()
    known = np.random.default_rng(1).uniform(size=picture.shape[:2]) < 0.01
    caplog.set_level(logging.INFO)
    mean = np.where(known[..., None], picture, np.float32(0.5))
    np.testing.assert_array_equal(complete(picture, known, depth=6, mean=mean).image, mean)
    assert "too little is known" in caplog.text


def test_holes_far_apart_are_filled_each_from_its_surroundings():
    picture, known = make_damage((120, 400))
    known[50:76, 330:356] = False
    picture[:, 240:] = np.float32(1) - picture[:, 240:]
    found = complete(picture, known).image
    deep = fill.find_deep(known, 8)
    assert np.sqrt(np.square(found - picture)[deep].mean()) < 0.05


def test_what_contradicts_the_model_is_told():
    picture, known = make_damage()
    bright = np.where(known[..., None], picture, np.float32(0.98))
    (note,) = complete(picture, known, mean=bright).notes
    assert "doubtful" in note and "rows 0 to 120" in note
    assert complete(picture, known).notes == ()


def test_a_model_completes_as_its_options_say(tiled_model):
    generator = np.random.default_rng(2)
    picture = np.tile(generator.integers(60, 200, (8, 8, 3), np.uint8), (12, 12, 1))
    mask = np.ones((96, 96), bool)
    mask[36:60, 30:62] = False
    plain = tiled_model.complete(picture, mask, num_samples=1)
    assert plain.completed is plain.mean and tiled_model.montage_depth is None
    copied = tiled_model.complete(picture, mask, num_samples=1, fill="montage")
    np.testing.assert_array_equal(copied.mean, plain.mean)
    np.testing.assert_array_equal(copied.completed[mask], plain.mean[mask])
    truth = picture / np.float32(255)
    errors = [np.square(values - truth)[~mask].mean() for values in (copied.completed, plain.mean)]
    assert errors[0] < 0.5 * errors[1]
    # A model whose file names a depth does so by itself, with grain for 8 bits alone.
    photos = dataclasses.replace(tiled_model, about={"montage_depth": "10"})
    by_itself = photos.complete(picture, mask, num_samples=1)
    np.testing.assert_array_equal(by_itself.completed, copied.completed)
    thin = np.ones_like(mask)
    thin[40:42, 10:80] = False
    for values, is_changed in ((picture, True), (truth, False)):
        result = photos.complete(values, thin, num_samples=1)
        assert (result.completed != result.mean).any() == is_changed
    result = photos.complete(np.stack([picture, picture]), np.stack([mask, thin]), num_samples=1)
    np.testing.assert_array_equal(result.completed[0], by_itself.completed)
    without = photos.complete(picture, mask, num_samples=1, fill="model", grain=False)
    np.testing.assert_array_equal(without.completed, without.mean)


def test_alternatives_follow_samples_of_their_own(tiled_model):
    generator = np.random.default_rng(3)
    picture = np.tile(generator.integers(60, 200, (8, 8, 3), np.uint8), (12, 12, 1))
    mask = np.ones((96, 96), bool)
    mask[36:60, 30:62] = False
    how = {"num_completed": 3, "fill": "montage"}
    one, many = (
        tiled_model.complete(picture, mask, num_samples=2, rounds=rounds, **how) for rounds in (1, 2)
    )
    np.testing.assert_array_equal(one.completed, many.completed)
    for result in (one, many):
        assert result.alternatives.shape == (2, 96, 96, 3)
        for other in result.alternatives:
            np.testing.assert_array_equal(other[mask], result.mean[mask])
    # With samples by rounds, they are the guides.
    guide, deviation = many.samples[1], many.uncertainty
    direct = fill.complete(many.mean, mask, deviation, depth=0.0, with_grain=False, seed=1, guides=[guide])
    np.testing.assert_array_equal(many.alternatives[1], direct.alternatives[0])
    batch = tiled_model.complete(picture[None], mask[None], num_samples=2, rounds=2, **how)
    np.testing.assert_array_equal(batch.alternatives[:, 0], many.alternatives)
    # Where nothing is copied they are the mean.
    plain = tiled_model.complete(picture, mask, num_samples=2, num_completed=3, fill="model")
    np.testing.assert_array_equal(plain.alternatives, np.stack([plain.mean] * 2))
    with pytest.raises(UserError, match="num_samples=2"):
        CompletionOptions(num_samples=1, num_completed=3)


def test_a_drawn_guide_goes_up_and_down_by_the_deviation():
    mean, deviation = np.full((120, 160, 3), 0.5, np.float32), np.zeros((120, 160, 3), np.float32)
    deviation[20:100, 30:130] = 0.1
    first, again, other = (fill.draw_guide(mean, deviation, (0, number)) for number in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[deviation == 0], 0.5)
    inside = first[20:100, 30:130] - 0.5
    assert inside.std() == pytest.approx(0.1, rel=0.05)
    assert np.abs(np.diff(inside, axis=0)).mean() < 0.02 and np.abs(first - other).mean() > 0.01


@pytest.mark.parametrize("options", [{"fill": "magic"}, {"grain": "no"}])
def test_other_options_are_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=f"{name} is {value!r}"):
        CompletionOptions(**options)
