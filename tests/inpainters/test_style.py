import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from ifanp_jax.errors import UserError
from ifanp_jax.inpainters import style

IMAGES, OTHERS = np.random.default_rng(0).random((2, 2, 16, 16, 3), np.float32)


def vgg16_tensors():
    generator, tensors, in_width = np.random.default_rng(0), {}, 3
    for layers, width in zip([(0, 2), (5, 7), (10, 12, 14)], (64, 128, 256), strict=True):
        for layer in layers:
            weight = generator.normal(size=(width, in_width, 3, 3)) * np.sqrt(2 / (9 * in_width))
            tensors[f"features.{layer}.weight"] = weight.astype(np.float32)
            tensors[f"features.{layer}.bias"] = generator.normal(size=width).astype(np.float32)
            in_width = width
    return tensors


def gram(maps):
    flat = np.float64(maps).reshape(2, -1, maps.shape[-1])
    return np.stack([one.T @ one for one in flat]) / np.prod(maps.shape[1:])


def test_gram_and_style_loss_equal_a_loop():
    def features(images):
        return [images, images[:, ::2, ::3] ** 2]

    loss, grams = jax.jit(
        lambda *x: (style.style_loss(features, *x), [style.gram(one) for one in features(x[0])])
    )(OTHERS, IMAGES)
    ours, theirs = ([gram(one) for one in features(images)] for images in (OTHERS, IMAGES))
    for found, expected in zip(grams, ours, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    expected = [np.abs(a - b).mean(axis=(1, 2)) for a, b in zip(ours, theirs, strict=True)]
    np.testing.assert_allclose(loss, np.mean(expected, axis=0), rtol=1e-5)


def test_guidance_loss_counts_hole_cells_and_leaves_the_truth_alone():
    decoder, truth = np.random.default_rng(1).normal(size=(2, 2, 3, 3, 4)).astype(np.float32)
    hole = np.zeros((2, 3, 3, 1), np.float32)
    hole[0, 1, 1] = 1

    @jax.jit
    def compute(decoder, truth):
        def total(*maps):
            loss = style.guidance_loss(*maps, hole)
            return loss.sum(), loss

        return jax.grad(total, argnums=(0, 1), has_aux=True)(decoder, truth)

    (by_decoder, by_truth), loss = compute(decoder, np.where(hole > 0, truth, np.nan))
    expected = np.square(decoder[0, 1, 1] - truth[0, 1, 1]).sum() / (3 * 3 * 4)
    np.testing.assert_allclose(loss, [expected, 0], rtol=1e-5)
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
        np.testing.assert_allclose(np.mean(np.square(one)), 1, rtol=1e-5)
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
    tensors["features.14.bias"] = tensors["features.14.bias"].astype(np.float16)
    safetensors.numpy.save_file({**tensors, "classifier.0.bias": np.zeros(3)}, tmp_path / "vgg.safetensors")
    features = style.read_vgg16(tmp_path / "vgg.safetensors")
    assert sum(leaf.size for leaf in jax.tree.leaves(features)) == 1_735_488
    chex.assert_type(jax.tree.leaves(features), jnp.float32)
    grey = IMAGES[..., :1]
    of_images, of_grey, of_repeated = jax.jit(lambda *x: [features(one) for one in x])(
        IMAGES, grey, np.repeat(grey, 3, axis=-1)
    )
    assert [one.shape for one in of_images] == [(2, 8, 8, 64), (2, 4, 4, 128), (2, 2, 2, 256)]
    np.testing.assert_allclose(of_images[0][0], reference_vgg16(tensors, IMAGES[0]), rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(of_grey, of_repeated, rtol=1e-5)
    with pytest.raises(UserError, match="2 channels"):
        features(IMAGES[..., :2])


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
