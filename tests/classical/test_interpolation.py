"""Classical methods against their equations."""

import sys

import numpy as np
import pytest

from ifanp_jax.classical import interpolation, opencv
from ifanp_jax.errors import UserError
from tests import helpers

AVAILABLE = tuple(dict.fromkeys((*interpolation.METHODS, *interpolation.hole_methods()[0])))
MNIST = helpers.ROOT.parent / "shared" / "data" / "tfds"


def tolerance(method):
    """OpenCV answers in 8 bits, and Telea's method adds a little to that."""
    return 6 / 255 if method in opencv.METHODS else 1e-6


def random_masks(shape, fraction, seed=0):
    b, h, w, _ = shape
    ranks = np.random.default_rng(seed).random((b, h * w)).argsort(axis=1)
    return (ranks < round(fraction * h * w)).reshape(b, h, w, 1)


def mean_psnr(completed, images):
    return np.mean(10 * np.log10(1 / np.mean((completed - images) ** 2, axis=(1, 2, 3))))


def half(h, w):
    mask = np.zeros((h, w, 1), bool)
    mask[: h // 2] = True
    return mask


@pytest.mark.parametrize("method", AVAILABLE)
def test_observed_pixels_are_exact_the_rest_in_range_and_hidden_ones_never_read(method):
    for shape in ((8, 8, 1), (12, 9, 3)):
        image = np.random.default_rng(1).random(shape, dtype=np.float32)
        for fraction in (0.1, 0.5):
            mask = random_masks((1, *shape), fraction)[0]
            completed = interpolation.complete(method, image, mask)
            assert completed.shape == shape and completed.dtype == np.float32
            np.testing.assert_array_equal(completed[mask[..., 0]], image[mask[..., 0]])
            assert completed.min() >= 0.0 and completed.max() <= 1.0
            spoiled = np.where(mask, image, np.nan).astype(np.float32)
            np.testing.assert_array_equal(interpolation.complete(method, spoiled, mask), completed)


@pytest.mark.parametrize("method", AVAILABLE)
def test_constant_image_is_reproduced(method):
    for intensity in (0.0, 0.3, 1.0):
        image = np.full((10, 8, 3), intensity, np.float32)
        for mask in (random_masks((1, 10, 8, 3), 0.3)[0], half(10, 8)):
            completed = interpolation.complete(method, image, mask)
            np.testing.assert_allclose(completed, image, atol=tolerance(method))


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_linear_ramp_is_reproduced_inside_the_hull(method):
    rows, columns = np.mgrid[:12, :10]
    image = ((0.05 + 0.03 * rows + 0.04 * columns)[..., None] * [1.0, 0.5]).astype(np.float32)
    mask = random_masks((1, 12, 10, 2), 0.3)[0]
    mask[[0, 0, -1, -1], [0, -1, 0, -1]] = True  # the corners span the whole image
    np.testing.assert_allclose(interpolation.complete(method, image, mask), image, atol=1e-5)


def test_nearest_takes_the_nearest_observed_pixel():
    image = np.arange(16, dtype=np.float32).reshape(4, 4, 1) / 16
    mask = np.zeros((4, 4, 1), bool)
    mask[0, 0] = mask[3, 3] = True
    completed = interpolation.complete("nearest", image, mask)
    np.testing.assert_array_equal(completed[0, :3, 0], 0.0)
    np.testing.assert_array_equal(completed[3, 1:, 0], image[3, 3, 0])


def test_gaussian_process_is_the_posterior_mean():
    image = np.random.default_rng(2).uniform(0.3, 0.7, (5, 6, 2)).astype(np.float32)
    mask = random_masks((1, 5, 6, 2), 0.4)[0]
    points = np.argwhere(np.ones((5, 6)))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) * np.sqrt(3.0) / 2.0
    kernel = (1 + distance) * np.exp(-distance)
    observed = mask.reshape(-1)
    values = image.reshape(-1, 2)[observed].astype(np.float64)
    mean = values.mean(axis=0, keepdims=True)
    system = kernel[observed][:, observed] + interpolation.NOISE * np.eye(observed.sum())
    expected = image.reshape(-1, 2).astype(np.float64)
    expected[~observed] = mean + kernel[~observed][:, observed] @ np.linalg.solve(system, values - mean)
    completed = interpolation.complete("gaussian_process", image, mask, length_scale=2.0)
    np.testing.assert_allclose(completed.reshape(-1, 2), np.clip(expected, 0, 1), atol=1e-5)


@pytest.mark.parametrize("method", AVAILABLE)
def test_extreme_masks_and_tiny_images_stay_finite(method):
    image = np.random.default_rng(3).random((9, 8, 3), dtype=np.float32)
    empty = np.zeros((9, 8, 1), bool)
    np.testing.assert_array_equal(interpolation.complete(method, image, empty), np.full(image.shape, 0.5))
    np.testing.assert_array_equal(interpolation.complete(method, image, ~empty), image)
    one, two, row, column, all_but_one = (empty.copy() for _ in range(5))
    one[4, 3] = two[[0, 8], [0, 7]] = row[2] = column[:, 5] = all_but_one[:] = True
    all_but_one[0, 0] = False
    for mask in (one, two, row, column, half(9, 8), all_but_one):
        completed = interpolation.complete(method, image, mask)
        assert np.isfinite(completed).all() and completed.min() >= 0.0 and completed.max() <= 1.0
    alone = interpolation.complete(method, image, one)
    np.testing.assert_allclose(alone, np.broadcast_to(image[4, 3], image.shape), atol=tolerance(method))
    for h, w in ((1, 1), (1, 6), (2, 2), (3, 3)):
        corner = np.arange(h * w).reshape(h, w, 1) == 0
        assert np.isfinite(interpolation.complete(method, image[:h, :w, :1], corner)).all()


def test_many_images_equal_one_image_at_a_time():
    images = np.random.default_rng(4).random((5, 8, 7, 3), dtype=np.float32)
    masks = random_masks(images.shape, 0.4)
    masks[3] = masks[4] = masks[1]  # solved together
    completed = interpolation.complete_images(images, masks, methods=AVAILABLE)
    assert tuple(completed) == AVAILABLE
    for method, results in completed.items():
        assert results.dtype == np.float32
        for image, mask, result in zip(images, masks, results, strict=True):
            np.testing.assert_allclose(result, interpolation.complete(method, image, mask), atol=1e-6)


def test_the_mean_is_that_of_each_images_observed_pixels():
    images = np.random.default_rng(1).random((2, 4, 4, 3), dtype=np.float32)
    masks = random_masks(images.shape, 0.5)
    completed = interpolation.complete_images(images, masks, methods=["mean"])
    assert list(completed) == ["mean"]  # only what is chosen runs
    for image, mask, result in zip(images, masks[..., 0], completed["mean"], strict=True):
        expected = np.broadcast_to(image[mask].mean(axis=0), image[~mask].shape)
        np.testing.assert_allclose(result[~mask], expected, rtol=1e-6)


def test_without_opencv_its_methods_are_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    available, missing = interpolation.hole_methods()
    assert missing == ("telea", "navier_stokes") and "patch_match" in available
    assert interpolation.scattered_methods(96, 96) == interpolation.methods_for(96, 96)
    assert sorted(available + missing) == sorted(interpolation.HOLE_METHODS)


@pytest.mark.skipif(
    "fsr" in opencv.missing_methods(), reason="OpenCV's contributed modules are not installed"
)
def test_fsr_is_a_baseline_of_scattered_pixels_in_pictures_alone():
    assert "fsr" in interpolation.scattered_methods(64, 80)
    assert interpolation.scattered_methods(64, 32) == interpolation.methods_for(64, 32)


def test_wrong_input_raises():
    image, mask = np.zeros((4, 4, 1), np.float32), np.ones((4, 4, 1), bool)
    with pytest.raises(UserError, match="choose one of nearest"):
        interpolation.complete("spline", image, mask)
    bad = [(image[..., 0], mask), (image.astype(np.uint8), mask), (image, mask[..., 0])]
    bad += [(image, mask.astype(np.float32)), (image, np.ones((4, 3, 1), bool))]
    for arguments in bad:
        with pytest.raises(AssertionError):
            interpolation.complete("nearest", *arguments)
    for arguments in ((image, mask), (image[None], mask)):
        with pytest.raises(AssertionError):
            interpolation.complete_images(*arguments)


def test_a_large_image_is_refused_by_the_gaussian_process_alone():
    assert interpolation.methods_for(64, 64) == interpolation.METHODS
    assert set(interpolation.METHODS) - set(interpolation.methods_for(128, 128)) == {"gaussian_process"}
    with pytest.raises(UserError, match="at most 8192 pixels"):
        interpolation.complete("gaussian_process", np.zeros((128, 128, 1)), np.ones((128, 128, 1), bool))


def test_length_scale_follows_the_smoothness_of_the_images():
    rows, columns = np.mgrid[:12, :12]
    phases = np.random.default_rng(5).uniform(0, 6, (4, 1, 1))
    smooth = 0.5 + 0.4 * np.sin(0.3 * rows + 0.2 * columns + phases)[..., None]
    rough = np.random.default_rng(5).random(smooth.shape)
    assert interpolation.select_length_scale(smooth) > interpolation.select_length_scale(rough)


def test_best_method_on_the_digits():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    images = (load_digits().images[::30, ..., None] / 16.0).astype(np.float32)
    best = {}
    for fraction in (0.2, 0.6):
        masks = random_masks(images.shape, fraction)
        completed = interpolation.complete_images(images, masks, length_scale=1.5)
        best[fraction] = max(mean_psnr(result, images) for result in completed.values())
    assert best == pytest.approx({0.2: 10.4, 0.6: 16.6}, abs=0.5)


def test_gaussian_process_on_mnist():
    if not MNIST.is_dir():
        pytest.skip("the prepared MNIST is not beside the project")
    datasets = pytest.importorskip("tensorflow_datasets")
    source = datasets.data_source("mnist", data_dir=MNIST, split="test")
    images = np.stack([source[index]["image"] for index in range(50)]).astype(np.float32) / 255
    masks = random_masks(images.shape, 0.4)
    completed = interpolation.complete_images(images, masks, methods=["gaussian_process"])
    assert abs(mean_psnr(completed["gaussian_process"], images) - 20.9) < 0.5
