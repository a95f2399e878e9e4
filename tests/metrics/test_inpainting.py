import chex
import jax
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from ifanp_jax.metrics import inpainting
from ifanp_jax.metrics.texture import texture_distance

GENERATOR = np.random.default_rng(0)
IMAGE = (GENERATOR.integers(0, 256, (3, 16, 20, 3)) / 255).astype(np.float32)
PREDICTION = np.clip(IMAGE + 0.2 * GENERATOR.normal(size=IMAGE.shape), 0, 1).astype(np.float32)


def make_masks():
    masks = np.ones((3, 16, 20, 1), bool)
    masks[0, 4:12, 5:15] = False
    masks[1, :3, :3] = False  # no window is centred there
    return masks  # the last has no hole


MASKS = make_masks()
measure = jax.jit(inpainting.measure)
METRICS = {name: np.asarray(value) for name, value in measure(PREDICTION, IMAGE, MASKS).items()}
COMPOSITE = np.round(255 * np.where(MASKS, IMAGE, PREDICTION).astype(np.float64)) / 255


def test_names_shapes_and_dtypes():
    names = ("l1_percent", "l2_percent", "psnr", "tv_percent", "ssim")
    expected = {f"{of}_{name}" for of in ("image", "hole") for name in names}
    assert set(METRICS) == expected  # too small for LPIPS
    assert set(inpainting.NAMES) == expected | {"hole_texture", "image_lpips"}
    chex.assert_shape(list(METRICS.values()), (3,))
    chex.assert_type(list(METRICS.values()), np.float32)


def test_errors_equal_plain_means():
    error = COMPOSITE - IMAGE
    for index, hole in enumerate(~MASKS[..., 0]):
        for prefix, chosen in (("image_", error[index].reshape(-1, 3)), ("hole_", error[index][hole])):
            if len(chosen):
                square = np.square(chosen).mean()
                expected = [
                    100 * np.abs(chosen).mean(),
                    100 * square,
                    min(100, 10 * np.log10(1 / (square + 1e-30))),
                ]
            else:
                expected = [np.nan] * 3
            found = [METRICS[prefix + name][index] for name in ("l1_percent", "l2_percent", "psnr")]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_total_variation_equals_a_loop_over_pairs():
    for index, hole in enumerate(~MASKS[..., 0]):
        for prefix, chosen in (("image_", np.ones_like(hole)), ("hole_", hole)):
            total = 0
            for dy, dx in ((1, 0), (0, 1)):
                pairs = [
                    np.abs(COMPOSITE[index, y + dy, x + dx] - COMPOSITE[index, y, x]).mean()
                    for y in range(16 - dy)
                    for x in range(20 - dx)
                    if chosen[y, x] or chosen[y + dy, x + dx]
                ]
                total += 100 * np.mean(pairs) if pairs else np.nan
            np.testing.assert_allclose(METRICS[f"{prefix}tv_percent"][index], total, rtol=1e-5)


def test_ssim_equals_scikit_image_with_the_same_convention():
    for index in range(3):
        _, similarity = structural_similarity(
            COMPOSITE[index],
            IMAGE[index].astype(np.float64),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            channel_axis=-1,
            full=True,
        )
        valid = similarity[5:-5, 5:-5]
        np.testing.assert_allclose(METRICS["image_ssim"][index], valid.mean(), atol=1e-5)
        hole = ~MASKS[index, 5:-5, 5:-5, 0]
        expected = valid[hole].mean() if hole.any() else np.nan
        np.testing.assert_allclose(METRICS["hole_ssim"][index], expected, atol=1e-5)


def test_known_pixels_of_the_prediction_are_not_read_and_small_images_have_no_ssim():
    other = measure(np.where(MASKS, np.float32(np.nan), PREDICTION), IMAGE, MASKS)
    chex.assert_trees_all_equal({name: np.asarray(value) for name, value in other.items()}, METRICS)
    small = inpainting.measure(PREDICTION[:, :8, :8], IMAGE[:, :8, :8], MASKS[:, :8, :8])
    assert np.isnan(small["image_ssim"]).all() and np.isfinite(small["image_psnr"]).all()


def test_hole_bins():
    masks = np.ones((7, 10, 10, 1), bool)
    for index, hidden in enumerate((0, 9, 10, 25, 59, 60, 100)):
        masks[index].reshape(-1)[:hidden] = False
    bins = inpainting.find_hole_bins(masks)
    assert [inpainting.HOLE_BINS[b] for b in bins] == [
        "0-10 %", "0-10 %", "10-20 %", "20-30 %", "50-60 %", "above 60 %", "above 60 %"
    ]  # fmt: skip


def test_wrong_arguments():
    with pytest.raises(AssertionError):
        inpainting.measure(PREDICTION, IMAGE, MASKS.astype(np.float32))


def test_texture_is_of_the_composite_in_each_hole():
    found = inpainting.measure_texture(PREDICTION, IMAGE, MASKS)
    expected = [
        texture_distance(*one, ~mask[..., 0]) for *one, mask in zip(COMPOSITE, IMAGE, MASKS, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found[0] > 0 and np.isnan(found[2])


def test_lpips_is_of_the_composite_where_it_can_be_measured(monkeypatch):
    monkeypatch.setattr(inpainting.lpips, "takes", lambda shape: shape[-1] == 3)
    monkeypatch.setattr(inpainting.lpips, "lpips", lambda x, y: abs(x - y).mean(axis=(1, 2, 3)))
    found = inpainting.measure(PREDICTION, IMAGE, MASKS)["image_lpips"]
    np.testing.assert_allclose(found, np.abs(COMPOSITE - IMAGE).mean(axis=(1, 2, 3)), rtol=1e-4, atol=1e-7)
    assert "image_lpips" not in inpainting.measure(PREDICTION[..., :1], IMAGE[..., :1], MASKS)
