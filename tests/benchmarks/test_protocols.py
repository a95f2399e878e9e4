"""The protocols of other papers, on a model whose densities are known."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import protocols
from configs import digits_ifanp
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation.contexts import make_context
from ifanp_jax.inference.model import Model
from ifanp_jax.models.base import Completion, ImageModel

SIDE, SCALE = 16, 0.05
IMAGES = np.random.default_rng(0).integers(100, 156, (5, SIDE, SIDE, 1), np.uint8)
DATASET = Dataset("noise", IMAGES, IMAGES)


class Constant(ImageModel):
    """Half of the largest intensity everywhere, whatever the context."""

    channels: int = 1
    has_scale: bool = True

    def complete(self, image, mask, *, num_samples):
        chex.assert_equal_shape_prefix([image, mask], 3)
        samples = jnp.full((num_samples, *image.shape), 0.5)
        return Completion(samples=samples, scale=jnp.full_like(samples, SCALE) if self.has_scale else None)


def make_model(module):
    config = digits_ifanp.get_config()
    config.model.update(likelihood="per_pixel", sigma_floor=0.004)
    config.evaluate.update(num_images=5, batch_size=4, num_samples=2)
    return Model(module=module, variables={}, config=config, image_shape=(SIDE, SIDE, 1), step=0)


def densities(images, scale):
    """Of every pixel, float64 (N, H, W)."""
    error = images[..., 0] / 255 - 0.5
    return -0.5 * (error / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


def test_points_of_tnp_are_context_and_the_rest_of_so_many():
    context, targets = protocols.draw_points(0, (40, SIDE, SIDE), num_points=20)
    assert not (context & targets).any()
    np.testing.assert_array_equal((context | targets).sum(axis=(1, 2, 3)), 20)
    counts = context.sum(axis=(1, 2, 3))
    assert counts.min() >= 3 and counts.max() <= 17 and len(set(counts)) > 5
    first, _ = protocols.draw_points(0, (3, SIDE, SIDE), num_points=20)
    np.testing.assert_array_equal(first, context[:3])


@pytest.fixture(scope="module")
def result():
    return protocols.run(make_model(Constant()), DATASET, num_rounds=3)


def test_rows_are_the_sums_of_the_densities(result):
    hidden = ~make_context("uniform", IMAGES.shape[:3], fraction=0.3, seed=0).masks[..., 0]
    assert [row["floor"] for row in result["npf"]] == [0, 0.01]
    for row in result["npf"]:  # a floor of 0.01 does not reach the scale
        of_pixels = densities(IMAGES, SCALE)
        expected = (of_pixels * hidden).sum(axis=(1, 2))
        np.testing.assert_allclose([row["one_pass"], row["by_rounds"]], expected.mean(), rtol=1e-4)
        both = [row["one_pass_all"], row["by_rounds_all"]]
        np.testing.assert_allclose(both, of_pixels.sum(axis=(1, 2)).mean(), rtol=1e-4)
        low, high = row["one_pass_interval"]
        assert expected.min() <= low <= row["one_pass"] <= high <= expected.max()
    _, targets = protocols.draw_points(0, IMAGES.shape[:3])
    assert [row["floor"] for row in result["tnp"]] == [0, 0.01, 0.05, 0.1]
    for row in result["tnp"]:
        of_pixels = densities(IMAGES, max(SCALE, row["floor"])) * targets[..., 0]
        expected = (of_pixels.sum(axis=(1, 2)) / targets.sum(axis=(1, 2, 3))).mean()
        np.testing.assert_allclose([row["one_pass"], row["by_rounds"]], expected, rtol=1e-4)


def test_the_tables_name_likelihood_floors_and_what_is_published(result, monkeypatch):
    # Of small images: they have too few pixels for tnp.
    monkeypatch.setattr(protocols, "measure_npf", lambda *_, **__: result["npf"])
    images = np.zeros((2, 8, 8, 1), np.uint8)
    small = protocols.run(make_model(Constant()), Dataset("mnist", images, images), num_rounds=2)
    text = "\n".join(protocols.list_lines(small))
    for expected in (
        "likelihood per_pixel, sigma floor 0.004, Normal; trained with the target all",
        "|  | floor | unobserved pixels, one pass | 2 rounds | all pixels, one pass | 2 rounds |",
        "| this model | its own | ",
        "| ConvLNP | 0.01 |  |  | 2,919 |  |",
        "tnp is left out",
    ):
        assert expected in text, expected
    assert "tnp, nats per target pixel:" in protocols.list_lines(result)


def test_a_model_without_a_scale_is_refused():
    with pytest.raises(UserError, match="no scale, so it has no log-likelihood"):
        protocols.run(make_model(Constant(has_scale=False)), DATASET, num_rounds=2)
