import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from ifanp_jax.errors import UserError
from ifanp_jax.inpainters import style

IMAGES = np.asarray(jax.random.uniform(jax.random.key(0), (2, 16, 16, 3)))


def vgg16_tensors(dtype=np.float32):
    generator, tensors, in_width = np.random.default_rng(0), {}, 3
    for layers, width in zip([(0, 2), (5, 7), (10, 12, 14)], (64, 128, 256), strict=True):
        for layer in layers:
            weight = generator.normal(size=(width, in_width, 3, 3)) * np.sqrt(2 / (9 * in_width))
            tensors[f"features.{layer}.weight"] = weight.astype(dtype)
            tensors[f"features.{layer}.bias"] = generator.normal(size=width).astype(dtype)
            in_width = width
    return tensors


def test_gram_and_style_loss_equal_a_loop():
    maps = np.asarray(jax.random.normal(jax.random.key(1), (2, 3, 4, 5)))
    flat = maps.reshape(2, 12, 5)
    expected = np.stack([one.T @ one for one in flat]) / (5 * 3 * 4)
    np.testing.assert_allclose(style.gram(maps), expected, rtol=1e-5)

    def features(images):
        return [images, images[:, ::2, ::2] ** 2]

    other = np.asarray(jax.random.uniform(jax.random.key(2), IMAGES.shape))
    loss = style.style_loss(features, other, IMAGES)
    expected = np.mean(
        [
            np.abs(style.gram(a) - style.gram(b)).mean(axis=(1, 2))
            for a, b in zip(features(other), features(IMAGES), strict=True)
        ],
        axis=0,
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    chex.assert_shape(loss, (2,))


def test_guidance_loss_counts_hole_cells_and_leaves_the_truth_alone():
    decoder, truth = np.asarray(jax.random.normal(jax.random.key(1), (2, 2, 3, 3, 4)))
    hole = np.zeros((2, 3, 3, 1), np.float32)
    hole[0, 1, 1] = 1
    loss = style.guidance_loss(decoder, truth, hole)
    expected = np.square(decoder[0, 1, 1] - truth[0, 1, 1]).sum() / (3 * 3 * 4)
    np.testing.assert_allclose(loss, [expected, 0], rtol=1e-5)
    by_decoder, by_truth = jax.grad(lambda *maps: style.guidance_loss(*maps, hole).sum(), argnums=(0, 1))(
        decoder, np.where(hole > 0, truth, np.nan)
    )
    assert np.argwhere(np.abs(by_decoder).sum(axis=-1)).tolist() == [[0, 1, 1]]
    np.testing.assert_array_equal(by_truth, 0)


def test_random_features_are_scaled_and_fixed():
    @jax.jit
    def compute(images):
        features, again = (style.make_random_features(IMAGES, widths=(4, 8)) for _ in range(2))
        gradient = jax.grad(lambda x: style.style_loss(features, x, IMAGES).sum())(images)
        return features(IMAGES), again(IMAGES), gradient

    maps, again, gradient = compute(0.9 * IMAGES)
    assert [one.shape for one in maps] == [(2, 8, 8, 4), (2, 4, 4, 8)]
    for one in maps:
        np.testing.assert_allclose(jnp.mean(jnp.square(one)), 1, rtol=1e-5)
    chex.assert_trees_all_close(maps, again, rtol=1e-5)
    chex.assert_tree_all_finite(gradient)
    assert np.abs(gradient).max() > 0


def reference_vgg16(tensors, image):
    """The first pool, in NumPy, NCHW."""
    x = (image.transpose(2, 0, 1) - np.reshape([0.485, 0.456, 0.406], (3, 1, 1))) / np.reshape(
        [0.229, 0.224, 0.225], (3, 1, 1)
    )
    for layer in (0, 2):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        x = np.einsum("ihwyx,oiyx->ohw", windows, tensors[f"features.{layer}.weight"])
        x = np.maximum(x + tensors[f"features.{layer}.bias"][:, None, None], 0)
    return x.reshape(64, 8, 2, 8, 2).max(axis=(2, 4)).transpose(1, 2, 0)


def test_vgg16_from_a_file(tmp_path):
    tensors = vgg16_tensors()
    safetensors.numpy.save_file({**tensors, "classifier.0.bias": np.zeros(3)}, tmp_path / "vgg.safetensors")
    features = style.read_vgg16(tmp_path / "vgg.safetensors")
    assert sum(leaf.size for leaf in jax.tree.leaves(features)) == 1_735_488
    maps = features(IMAGES)
    assert [one.shape for one in maps] == [(2, 8, 8, 64), (2, 4, 4, 128), (2, 2, 2, 256)]
    np.testing.assert_allclose(maps[0][0], reference_vgg16(tensors, IMAGES[0]), rtol=1e-4, atol=1e-4)
    grey = features(IMAGES[..., :1])
    chex.assert_trees_all_close(grey, features(np.repeat(IMAGES[..., :1], 3, axis=-1)), rtol=1e-5)
    with pytest.raises(UserError, match="2 channels"):
        features(IMAGES[..., :2])


def test_half_precision_files_are_read(tmp_path):
    safetensors.numpy.save_file(vgg16_tensors(np.float16), tmp_path / "half.safetensors")
    features = style.read_vgg16(tmp_path / "half.safetensors")
    chex.assert_type(jax.tree.leaves(features), jnp.float32)


def test_bad_files_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        style.read_vgg16(tmp_path / "missing.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"no tensors at all")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        style.read_vgg16(damaged)
    tensors, path = vgg16_tensors(), tmp_path / "wrong.safetensors"
    first = tensors.pop("features.0.weight")
    safetensors.numpy.save_file({**tensors, "conv1.weight": first}, path)
    with pytest.raises(UserError, match=r"has no tensor features\.0\.weight"):
        style.read_vgg16(path)
    safetensors.numpy.save_file({**tensors, "features.0.weight": first[:32]}, path)
    with pytest.raises(UserError, match=r"shape \(32, 3, 3, 3\); VGG16's has \(64, 3, 3, 3\)"):
        style.read_vgg16(path)
