"""A model as an ONNX file, run by ONNX Runtime."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.inference import onnx_file
from ifanp_jax.models.base import Completion, ImageModel
from tests.helpers import random_image, random_mask
from tests.inference.exports import make_trained

pytest.importorskip("jax2onnx", reason="jax2onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


def ask(content, image, mask):
    """Mean and deviation, (H, W, C) each, by the file alone."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = {"image": image[None].astype(np.float32), "mask": mask[None, ..., None].astype(np.float32)}
    return [values[0] for values in session.run(None, given)]


def make_picture(height, width):
    return random_image(height, width, 3) / np.float32(255), random_mask(height, width)


@pytest.fixture(scope="module")
def model():
    return make_trained("multiscale_np.MultiscaleNP", latent_dim=0)


@pytest.fixture(scope="module")
def content(model):
    return onnx_file.serialize(model)


def test_any_size_gets_the_answers_of_the_model(model, content):
    cell = model.module.cell
    for height, width in ((6 * cell, 8 * cell), (11 * cell, 5 * cell)):
        image, mask = make_picture(height, width)
        mean, deviation = ask(content, np.where(mask[..., None], image, 7), mask)  # hidden ones are not read
        expected = model.complete(image, mask, num_samples=1, rounds=1, size="own")
        np.testing.assert_allclose(mean, expected.mean, atol=1e-5)
        np.testing.assert_allclose(np.where(mask[..., None], 0, deviation), expected.uncertainty, atol=1e-5)
        assert np.ptp(mean[~mask]) > 0.05


def test_what_is_marked_as_padding_is_beside_the_picture(model, content):
    cell = model.module.cell
    image, mask = make_picture(6 * cell - 1, 8 * cell - 1)
    padded = np.pad(image, ((0, 1), (0, 1), (0, 0)))
    mean, _ = ask(content, padded, np.pad(mask.astype(np.float32), ((0, 1), (0, 1)), constant_values=-1))
    expected = model.complete(image, mask, num_samples=1, rounds=1, size="own").mean
    np.testing.assert_allclose(mean[:-1, :-1], expected, atol=1e-5)
    otherwise, _ = ask(content, padded, np.pad(mask.astype(np.float32), ((0, 1), (0, 1))))
    assert np.abs(otherwise[:-1, :-1] - expected).max() > 1e-4


def test_half_of_the_bytes_store_rounded_parameters(model, content, tmp_path):
    onnx_file.write(model, tmp_path / "half.onnx", dtype="float16")
    half = (tmp_path / "half.onnx").read_bytes()
    large = sum(x.size for x in _leaves(model) if x.size >= onnx_file.MIN_HALVED)
    assert 1.9 * large < len(content) - len(half) + 60 * len(_leaves(model)) and len(half) < len(content)
    image, mask = make_picture(24, 24)
    rounded = _with(
        model, lambda x: x.astype(np.float16).astype(np.float32) if x.size >= onnx_file.MIN_HALVED else x
    )
    expected = rounded.complete(image, mask, num_samples=1, rounds=1, size="own").mean
    np.testing.assert_allclose(ask(half, image, mask)[0], expected, atol=1e-5)


def _leaves(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model.variables)]


def _with(model, change):
    return dataclasses.replace(
        model, variables=jax.tree.map(lambda x: change(np.asarray(x)), model.variables)
    )


class OneLayer(ImageModel):
    """Takes the size of its training alone, and has no scale."""

    @nn.compact
    def complete(self, image, mask, *, num_samples):
        answer = nn.sigmoid(nn.Dense(self.channels)(jnp.where(mask, image, 0)))
        return Completion(samples=jnp.broadcast_to(answer, (num_samples, *answer.shape)))

    def completion_bytes(self, size):
        return 4 * size[0] * size[1]


def test_a_model_of_one_size_is_written_for_that_size(model, tmp_path):
    module = OneLayer(channels=3)
    image, mask = make_picture(6, 8)
    variables = module.init(
        jax.random.key(0), image[None], mask[None, ..., None], num_samples=1, method="complete"
    )
    small = dataclasses.replace(model, module=module, variables=variables)
    onnx_file.write(small, tmp_path / "small.onnx")
    (mean,) = ask((tmp_path / "small.onnx").read_bytes(), image, mask)
    np.testing.assert_allclose(mean, small.complete(image, mask, num_samples=1).mean, atol=1e-5)


def test_what_cannot_be_written_is_one_sentence_and_leaves_nothing(model, content, tmp_path):
    with pytest.raises(UserError, match=r"IFANP has a latent variable.*stablehlo"):
        onnx_file.write(make_trained("image_np.IFANP"), tmp_path / "a.onnx")
    with pytest.raises(UserError, match=r"ends with \.onnx"):
        onnx_file.write(model, tmp_path / "folder")
    shifted = _with(model, lambda x: x + np.float32(0.01))
    with pytest.raises(UserError, match=r"differ from the model's by .*nothing was written"):
        onnx_file.check(shifted, content, (16, 16), tolerance=onnx_file.TOLERANCE)
    assert not list(tmp_path.iterdir())
