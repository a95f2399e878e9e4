"""Pictures of any size, in tiles and coarse to fine."""

import dataclasses
import logging

import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inference.model import Model
from ifanp_jax.inference.sizes import Limits
from ifanp_jax.models.base import Completion, ImageModel
from ifanp_jax.models.multiscale_np import MultiscaleNP
from tests.helpers import random_image, random_mask

SIZE = (41, 53)
TOLERANCE = 2e-3  # what the kernels' weights beyond a tile may change
TRACES = []  # of `Counted`


class Counted(MultiscaleNP):
    """Remembers what its completion is traced with."""

    def complete(self, image, mask, *, num_samples, inside=None):
        TRACES.append(image.shape)
        return super().complete(image, mask, num_samples=num_samples, inside=inside)


class Constant(ImageModel):
    """Answers 0.5 with a deviation of 0.1 everywhere."""

    cell: int = 4

    def complete(self, image, mask, *, num_samples, inside=None):
        samples = jnp.full((num_samples, *image.shape), 0.5)
        return Completion(samples=samples, scale=jnp.full_like(samples, 0.1))

    def takes_size(self, size, trained_size):
        return None

    def completion_bytes(self, size):
        return 1

    def tile_margin(self):
        return 8


def cut(model, *sides, **limits):
    return dataclasses.replace(model, limits=Limits(tile_sides=sides, **limits))


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_answer_does_not_depend_on_the_tiles(tiled_model, rounds):
    image, mask = random_image(*SIZE, 3), random_mask(*SIZE)
    in_one = cut(tiled_model, 64).complete(image, mask, num_samples=2, rounds=rounds)
    told = []
    in_many = cut(tiled_model, 32).complete(
        image, mask, num_samples=2, rounds=rounds, on_progress=lambda *facts: told.append(facts)
    )
    for name in ("samples", "mean", "uncertainty"):
        np.testing.assert_allclose(getattr(in_many, name), getattr(in_one, name), atol=TOLERANCE)
    assert (in_many.mean != in_one.mean).any()  # they were cut
    num_tiles = 6 if rounds == 1 else 6 * (1 + 2 * rounds)
    assert [(done, total) for done, total, _ in told] == [(n, num_tiles) for n in range(num_tiles + 1)]
    assert told[1][2] is None and told[2][2] > 0 and told[-1][2] == 0


def test_one_tile_answers_as_the_whole_picture_does(tiled_model):
    image, mask = random_image(*SIZE, 3), random_mask(*SIZE)
    whole = tiled_model.complete(image, mask, num_samples=2, rounds=1, size="own")
    tile = cut(tiled_model, 64).complete(image, mask, num_samples=2, rounds=1)
    for name in ("samples", "mean", "uncertainty"):
        np.testing.assert_allclose(getattr(tile, name), getattr(whole, name), atol=1e-5)


def test_another_size_and_another_hole_compile_nothing(tiled_model):
    fields = [
        field.name for field in dataclasses.fields(tiled_model.module) if field.name not in ("parent", "name")
    ]
    counted = Counted(**{name: getattr(tiled_model.module, name) for name in fields})
    model = dataclasses.replace(tiled_model, module=counted)
    TRACES.clear()
    for size in (SIZE, (33, 90), (70, 20), (64, 64)):
        model.complete(random_image(*size, 3), random_mask(*size), num_samples=2, rounds=1)
    assert TRACES == [(1, 32, 32, 3)]


def test_the_batch_is_its_images(tiled_model):
    images, masks = random_image(2, *SIZE, 3), random_mask(2, *SIZE, 1)
    batch = tiled_model.complete(images, masks, num_samples=2, rounds=2)
    assert batch.samples.shape == (2, 2, *SIZE, 3)
    for index in range(2):
        alone = tiled_model.complete(images[index], masks[index], num_samples=2, rounds=2)
        np.testing.assert_array_equal(batch.samples[:, index], alone.samples)
        np.testing.assert_array_equal(batch.uncertainty[index], alone.uncertainty)


def test_samples_by_rounds(tiled_model):
    image, mask = random_image(*SIZE, 3), random_mask(*SIZE)
    first = tiled_model.complete(image, mask, num_samples=2, rounds=3, seed=5)
    again = tiled_model.complete(image, mask, num_samples=2, rounds=3, seed=5, uncertainty="samples")
    np.testing.assert_array_equal(first.samples, again.samples)
    assert (first.samples[0] != first.samples[1])[~mask].mean() > 0.9
    np.testing.assert_array_equal(first.samples[:, mask], np.stack([image[mask] / np.float32(255)] * 2))
    spread = np.sqrt(np.square(first.samples - first.mean).mean(axis=0))
    np.testing.assert_allclose(again.uncertainty, spread, atol=1e-6)
    cold = tiled_model.complete(image, mask, num_samples=2, rounds=3, temperature=0.0)
    assert np.abs(cold.samples - cold.mean).max() < np.abs(first.samples - first.mean).max()
    own = dataclasses.replace(tiled_model, module=tiled_model.module.clone(temperature=0.0))
    np.testing.assert_array_equal(own.complete(image, mask, num_samples=2, rounds=3).samples, cold.samples)
    for observed in (True, False):
        result = tiled_model.complete(image, np.full(SIZE, observed), num_samples=2, rounds=2)
        assert np.isfinite(result.samples).all() and np.isfinite(result.uncertainty).all()
        assert (result.mean == image / np.float32(255)).all() == observed


def test_a_deep_hole_is_completed_coarse_to_fine(tiled_model, caplog):
    image, mask = random_image(90, 100, 3), np.ones((90, 100), bool)
    mask[20:70, 25:75] = False
    with caplog.at_level(logging.INFO, "ifanp_jax"):
        results = [cut(tiled_model, *sides).complete(image, mask, num_samples=2) for sides in ((32,), (128,))]
    assert "coarse to fine from 1/4 of the size" in caplog.text and "25 pixels from" in caplog.text
    for name in ("mean", "uncertainty"):
        few, many = (getattr(result, name) for result in results)
        assert np.isfinite(few).all() and (few >= 0).all()
        np.testing.assert_allclose(few, many, atol=TOLERANCE)
    np.testing.assert_array_equal(few[mask], 0)
    told = []
    drawn = tiled_model.complete(
        image, mask, num_samples=2, rounds=2, on_progress=lambda *facts: told.append(facts)
    )
    assert told[-1][0] == told[-1][1]
    assert np.isfinite(drawn.samples).all() and (drawn.samples[0] != drawn.samples[1])[~mask].mean() > 0.9


def test_the_deviations_of_all_levels_add_up():
    mask = np.ones((90, 100), bool)
    mask[20:70, 25:75] = False  # three levels
    model = Model(Constant(channels=3), {}, None, (32, 32, 3), step=0, limits=Limits(tile_sides=(32,)))
    result = model.complete(random_image(90, 100, 3), mask, num_samples=1, rounds=1)
    np.testing.assert_allclose(result.uncertainty[45, 50], 0.1 * np.sqrt(3), rtol=1e-5)
    np.testing.assert_allclose(result.uncertainty[20, 50], 0.1, rtol=1e-5)  # the border is of one level


def test_the_log_says_what_was_chosen(tiled_model, caplog):
    image, mask = random_image(*SIZE, 3), random_mask(*SIZE)
    with caplog.at_level(logging.INFO, "ifanp_jax"):
        result = cut(tiled_model, 64, draws_at_once=1).complete(image, mask, num_samples=2)
    assert len(caplog.records) == 1
    assert "41x53 pixels in 1 tile of 64x64" in caplog.text
    expected = (
        "In one round the 2 answers are equal; rounds=16 would let them differ and take 32 times as long."
    )
    assert caplog.records[0].getMessage().endswith(f"only where something is missing. {expected}")
    np.testing.assert_array_equal(result.samples[0], result.samples[1])
    caplog.clear()
    with caplog.at_level(logging.INFO, "ifanp_jax"):
        cut(tiled_model, 64).complete(image, mask, num_samples=2, rounds=3)
    assert "Each answer is drawn in 3 rounds, 7 tiles in all." in caplog.text
