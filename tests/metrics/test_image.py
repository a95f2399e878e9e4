"""MSE, PSNR and SSIM against their equations and scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax import metrics

SHAPES = [(3, 8, 8, 1), (2, 5, 7, 3), (1, 1, 1, 1)]
PLAIN = [metrics.mse, metrics.psnr]
MASKED = [
    metrics.masked_mse,
    metrics.psnr_completed,
    metrics.psnr_unobserved,
    metrics.keep_observed,
]


def make_inputs(shape, seed=0):
    generator = np.random.default_rng(seed)
    prediction = generator.random(shape, dtype=np.float32)
    image = generator.random(shape, dtype=np.float32)
    mask = generator.random((*shape[:3], 1)) < 0.4
    return prediction, image, mask


def arguments(function, shape=(3, 12, 13, 3)):
    prediction, image, mask = make_inputs(shape)
    return (prediction, image, mask) if function in MASKED else (prediction, image)


@pytest.mark.parametrize("shape", SHAPES)
def test_mse_and_psnr_are_their_equations(shape):
    prediction, image, _ = make_inputs(shape)
    expected = np.mean((prediction - image).astype(np.float64) ** 2, axis=(1, 2, 3))
    result = metrics.mse(prediction, image)
    assert result.shape == shape[:1]
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics.psnr(prediction, image), 10 * np.log10(1 / expected), rtol=1e-5)


def test_known_psnr():
    image = np.full((1, 4, 4, 1), 0.5, np.float32)
    np.testing.assert_allclose(metrics.psnr(image + 0.1, image), 20.0, rtol=1e-5)


def test_equal_images_reach_the_stated_maximum():
    image = np.full((2, 4, 4, 1), 0.5, np.float32)
    np.testing.assert_allclose(10 * np.log10(1 / metrics.MIN_MSE), metrics.MAX_PSNR, rtol=1e-12)
    np.testing.assert_allclose(metrics.psnr(image, image), metrics.MAX_PSNR, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 8, 8, 1), (2, 5, 7, 3)])
def test_masked_metrics_are_their_equations(shape):
    prediction, image, mask = make_inputs(shape)
    squares = (prediction - image).astype(np.float64) ** 2
    for index in range(shape[0]):
        observed = mask[index, ..., 0]
        selected = squares[index][observed].mean()
        np.testing.assert_allclose(metrics.masked_mse(prediction, image, mask)[index], selected, rtol=1e-5)
        unobserved = 10 * np.log10(1 / squares[index][~observed].mean())
        result = metrics.psnr_unobserved(prediction, image, mask)[index]
        np.testing.assert_allclose(result, unobserved, rtol=1e-5)
        completed = 10 * np.log10(1 / (squares[index] * ~mask[index]).mean())
        result = metrics.psnr_completed(prediction, image, mask)[index]
        np.testing.assert_allclose(result, completed, rtol=1e-5)
    np.testing.assert_array_equal(
        metrics.keep_observed(prediction, image, mask), np.where(mask, image, prediction)
    )


def test_empty_and_full_masks():
    prediction, image, mask = make_inputs((2, 6, 6, 3))
    empty, full = np.zeros_like(mask), np.ones_like(mask)
    np.testing.assert_array_equal(metrics.masked_mse(prediction, image, empty), np.zeros(2))
    np.testing.assert_allclose(metrics.psnr_unobserved(prediction, image, full), metrics.MAX_PSNR, rtol=1e-6)
    np.testing.assert_allclose(metrics.psnr_completed(prediction, image, full), metrics.MAX_PSNR, rtol=1e-6)
    raw = metrics.psnr(prediction, image)
    np.testing.assert_allclose(metrics.psnr_completed(prediction, image, empty), raw, rtol=1e-6)
    np.testing.assert_allclose(metrics.psnr_unobserved(prediction, image, empty), raw, rtol=1e-6)


def test_an_observed_pixel_never_changes_the_score_of_the_others():
    prediction, image, mask = make_inputs((2, 6, 6, 3))
    spoiled = np.where(mask, np.nan, prediction).astype(np.float32)
    for function in (metrics.psnr_completed, metrics.psnr_unobserved):
        np.testing.assert_array_equal(function(spoiled, image, mask), function(prediction, image, mask))


@pytest.mark.parametrize("function", [*PLAIN, *MASKED, metrics.ssim])
def test_jit_equals_no_jit(function):
    inputs = arguments(function)
    np.testing.assert_allclose(jax.jit(function)(*inputs), function(*inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", [*PLAIN, *MASKED, metrics.ssim])
def test_wrong_shapes_and_dtypes_raise(function):
    prediction, image, *mask = arguments(function)
    with pytest.raises(AssertionError):
        function(prediction[0], image[0], *mask)
    with pytest.raises(AssertionError):
        function(prediction[:, :-1], image, *mask)
    with pytest.raises(AssertionError):
        function((255 * prediction).astype(np.uint8), image, *mask)
    if mask:
        with pytest.raises(AssertionError):
            function(prediction, image, mask[0][..., 0])
        with pytest.raises(AssertionError):
            function(prediction, image, mask[0].astype(np.float32))


def test_reduced_precision_is_scored_in_float32():
    prediction, image, _ = make_inputs((2, 16, 16, 1))
    for function in (metrics.mse, metrics.ssim):
        coarse = jnp.asarray(prediction, jnp.bfloat16)
        result = function(coarse, image)
        assert result.dtype == jnp.float32
        np.testing.assert_array_equal(result, function(jnp.asarray(coarse, jnp.float32), image))


def reference_ssim(prediction, image):
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    return [
        structural_similarity(
            one.astype(np.float64),
            other.astype(np.float64),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            channel_axis=-1,
        )
        for one, other in zip(prediction, image, strict=True)
    ]


@pytest.mark.parametrize("shape", [(3, 28, 28, 1), (2, 32, 32, 3), (2, 11, 17, 3)])
def test_ssim_equals_scikit_image(shape):
    noise, image, _ = make_inputs(shape)
    for strength in (0.02, 0.3, 1.0):
        prediction = (1 - strength) * image + strength * noise
        result = metrics.ssim(prediction, image)
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, reference_ssim(prediction, image), atol=1e-5)


@pytest.mark.parametrize("intensity", [0.0, 0.9, 1.0])
def test_ssim_of_flat_areas_equals_scikit_image(intensity):
    generator = np.random.default_rng(0)
    image = np.full((2, 24, 24, 3), intensity, np.float32)
    image[:, :12, :12] = generator.random((2, 12, 12, 3))
    prediction = np.clip(image + generator.normal(0, 0.01, image.shape), 0, 1).astype(np.float32)
    np.testing.assert_allclose(metrics.ssim(prediction, image), reference_ssim(prediction, image), atol=1e-5)


def test_ssim_keeps_a_small_variance_on_a_large_offset():
    prediction, image, _ = make_inputs((2, 13, 14, 3))
    offset = np.float32(64)  # squares of it leave float32 no digit for a variance of 1/12
    found = metrics.ssim(prediction + offset, image + offset)
    np.testing.assert_allclose(found, reference_ssim(prediction + offset, image + offset), atol=1e-4)


def test_ssim_of_equal_images_is_one():
    _, image, _ = make_inputs((2, 16, 16, 3))
    np.testing.assert_allclose(metrics.ssim(image, image), 1.0, atol=1e-6)


def test_ssim_of_an_image_below_the_window_raises():
    prediction, image, _ = make_inputs((2, 8, 16, 1))
    with pytest.raises(ValueError, match="at least 11"):
        metrics.ssim(prediction, image)
