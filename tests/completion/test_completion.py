import functools
import itertools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ifanp_jax.completion import model as completion_model
from ifanp_jax.errors import UserError
from ifanp_jax.models import image_np

NAMES = ("samples", "mean", "uncertainty", "raw_samples")


def make_model(channels):
    module = image_np.IFANP(channels=channels, width=8, latent_dim=8, encoder_depth=1, decoder_depth=1)
    image, mask = jnp.zeros((1, 8, 8, channels)), jnp.ones((1, 8, 8, 1), bool)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(0)}
    init = functools.partial(module.init, num_samples=1, method="complete")
    shapes = jax.eval_shape(init, rngs, image, mask)["params"]
    rng = np.random.default_rng(0)  # nothing to compile
    params = jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes)
    return completion_model.CompletionModel(
        module=module, params=params, config=None, step=0, image_shape=(8, 8, channels)
    )


@pytest.fixture(scope="module")
def model():
    return make_model(1)


@pytest.fixture(scope="module")
def colour_model():
    return make_model(3)


def random_image(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def random_mask(*shape, seed=1):
    return np.random.default_rng(seed).random(shape) < 0.5


def left_half(height, width):
    return np.broadcast_to(np.arange(width) < width // 2, (height, width))


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def read(path):
    return np.asarray(Image.open(path))


def assert_same(first, second, **tolerance):
    for name in NAMES:
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), **tolerance)


@pytest.mark.parametrize(
    ("image_shape", "mask_shape", "batch"),
    [
        ((8, 8), (8, 8), ()),
        ((8, 8, 1), (8, 8, 1), ()),
        ((2, 8, 8, 1), (2, 8, 8, 1), (2,)),
        ((2, 8, 8, 1), (8, 8), (2,)),
        ((1, 8, 8, 1), (8, 8, 1), (1,)),
    ],
)
@pytest.mark.parametrize("size", completion_model.SIZES)
def test_forms(model, image_shape, mask_shape, batch, size):
    image, mask = random_image(*image_shape), random_mask(*mask_shape)
    result = model.complete(image, mask, num_samples=2, size=size)
    assert result.samples.shape == result.raw_samples.shape == (2, *batch, 8, 8, 1)
    assert result.mean.shape == result.uncertainty.shape == (*batch, 8, 8, 1)
    observed = np.broadcast_to(mask if mask.ndim > 2 else mask[..., None], result.mean.shape)
    truth = (image.reshape(result.mean.shape) / np.float32(255))[observed]
    for name in NAMES:
        values = getattr(result, name)
        assert type(values) is np.ndarray and values.dtype == np.float32
        assert values.min() >= 0 and np.isfinite(values).all()
    for kept in (*result.samples, result.mean):
        assert kept.max() <= 1
        np.testing.assert_array_equal(kept[observed], truth)
    assert (result.uncertainty[observed] == 0).all() and (result.uncertainty[~observed] > 0).all()
    np.testing.assert_array_equal(
        np.broadcast_to(~observed, result.samples.shape) * (result.samples - result.raw_samples), 0
    )
    assert (result.raw_samples[:, observed] != truth).any()


def test_uncertainty_is_the_total_deviation(model):
    image, mask = random_image(1, 8, 8, 1) / np.float32(255), random_mask(1, 8, 8, 1)
    result = model.complete(image, mask, num_samples=2, seed=5)
    key = jax.random.fold_in(jax.random.key(5), 0)
    samples, scale = answers.complete_batch(key, model.module, model.params, image, mask, num_samples=2)
    expected = np.sqrt(np.var(samples, axis=0) + np.mean(np.square(scale), axis=0))
    np.testing.assert_allclose(result.uncertainty, np.where(mask, 0, expected), rtol=1e-3)


def test_uint8_equals_float(model):
    image, mask = random_image(8, 8), random_mask(8, 8)
    expected = model.complete(image, mask, num_samples=2)
    for dtype in (np.float32, np.float64):
        scaled = (image / 255).astype(dtype)
        assert_same(model.complete(scaled, mask, num_samples=2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", completion_model.SIZES)
@pytest.mark.parametrize("shape", [(11, 14), (1, 6)])
def test_other_sizes(colour_model, shape, size):
    image, mask = random_image(*shape, 3), left_half(*shape)
    result = colour_model.complete(image, mask, num_samples=2, size=size)
    assert result.samples.shape == (2, *shape, 3)
    np.testing.assert_array_equal(result.samples[:, mask], np.stack([image[mask] / np.float32(255)] * 2))
    assert all(np.isfinite(getattr(result, name)).all() for name in NAMES)


def test_trained_size_of_a_trained_image_is_its_own(model):
    image, mask = random_image(8, 8), random_mask(8, 8)
    own = model.complete(image, mask, num_samples=2)
    assert_same(model.complete(image, mask, num_samples=2, size="trained"), own, rtol=1e-6, atol=1e-6)


def test_trained_size_sees_the_mean_of_the_observed_pixels(model):
    blocks, seen = random_image(8, 8), left_half(8, 8)
    image = blocks.repeat(2, axis=0).repeat(2, axis=1)
    mask = seen.repeat(2, axis=0).repeat(2, axis=1)
    mask[::2, :8:2] = False  # three quarters of each block remain
    small = model.complete(blocks, seen, num_samples=2)
    large = model.complete(image, mask, num_samples=2, size="trained")
    upscaled = np.asarray(Image.fromarray(small.mean[..., 0]).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(large.mean[~mask][:, 0], upscaled[~mask], atol=1e-5)
    assert (large.uncertainty[~mask] > 0).all()


def test_trained_size_counts_exactly_a_tenth_as_observed():
    mask = np.zeros((1, 20, 20, 1), bool)
    mask[0, 0, :10] = True  # 10 of the 100 pixels of the first block
    mask[0, 10, :9] = True  # 9 of those of the block below it
    image = np.where(mask, np.float32(0.3), np.float32(0))
    small_image, small_mask = completion_model._to_grid(image, mask, 2, 2)
    np.testing.assert_array_equal(small_mask[0, ..., 0], [[True, False], [False, False]])
    np.testing.assert_allclose(small_image[0, ..., 0], [[0.3, 0], [0, 0]], rtol=1e-6)
    rows = np.broadcast_to((np.arange(80) % 10 == 0)[None, :, None, None], (1, 80, 96, 1))
    assert completion_model._to_grid(rows.astype(np.float32), rows, 8, 8)[1].all()


def test_trained_size_warns_where_no_coarse_pixel_is_observed(model, caplog):
    mask = np.zeros((64, 64), bool)
    mask[::16, ::16] = True
    model.complete(random_image(64, 64), mask, num_samples=2, size="trained")
    assert "nothing of the image is used" in caplog.text


@pytest.mark.parametrize("size", completion_model.SIZES)
def test_unobserved_values_are_never_read(colour_model, size):
    image, mask = random_image(11, 14, 3) / np.float32(255), left_half(11, 14)
    expected = colour_model.complete(image, mask, num_samples=2, size=size)
    for value in (np.nan, np.inf, -7.0):
        hidden = np.where(mask[..., None], image, np.float32(value))
        assert_same(colour_model.complete(hidden, mask, num_samples=2, size=size), expected, rtol=0)


def test_empty_and_full_masks(model):
    image = random_image(8, 8)
    empty = model.complete(image, np.zeros((8, 8), bool), num_samples=2)
    assert all(np.isfinite(getattr(empty, name)).all() for name in NAMES)
    full = model.complete(image, np.ones((8, 8), bool), num_samples=2)
    np.testing.assert_array_equal(full.mean[..., 0], image / np.float32(255))


def test_seed(model):
    image, mask = random_image(8, 8), left_half(8, 8)
    first = model.complete(image, mask, num_samples=2, seed=3)
    assert_same(model.complete(image, mask, num_samples=2, seed=3), first, rtol=0)
    other = model.complete(image, mask, num_samples=2, seed=4)
    assert (first.raw_samples != other.raw_samples).any()
    assert (first.raw_samples[0] != first.raw_samples[1]).any()


def test_neighbours_do_not_matter(model):
    images, masks = random_image(5, 8, 8, 1), random_mask(5, 8, 8, 1)
    batch = model.complete(images, masks, num_samples=2)
    for index in range(5):
        alone = model.complete(images[index], masks[index], num_samples=2)
        np.testing.assert_allclose(alone.samples, batch.samples[:, index], atol=1e-5)
        np.testing.assert_allclose(alone.uncertainty, batch.uncertainty[index], atol=1e-5)


def test_calls_of_bounded_size(model, monkeypatch):
    images, masks = random_image(5, 8, 8, 1), random_mask(5, 8, 8, 1)
    whole = model.complete(images, masks, num_samples=2)
    monkeypatch.setattr(complete, "POSITIONS_AT_ONCE", 2 * 2 * 64)
    assert_same(model.complete(images, masks, num_samples=2), whole, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(complete, "POSITIONS_AT_ONCE", 64)
    by_sample = model.complete(images, masks, num_samples=2)
    assert by_sample.samples.shape == (2, 5, 8, 8, 1)
    assert len({sample.tobytes() for sample in by_sample.raw_samples}) == 2


def test_second_call_does_not_compile(model):
    image, mask = random_image(8, 8), random_mask(8, 8)
    model.complete(image, mask, num_samples=2)
    size = answers.complete_batch._cache_size()
    model.complete(image, ~mask, num_samples=2, seed=9)
    assert answers.complete_batch._cache_size() == size


IMAGE, MASK = np.zeros((8, 8), np.uint8), np.ones((8, 8), bool)


@pytest.mark.parametrize(
    ("image", "mask", "options", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), MASK, {}, r"has shape \(8, 8, 3\) but this model takes \(H, W, 1\)"),
        (np.zeros((2, 1, 8, 8, 1), np.uint8), MASK, {}, "has shape"),
        (np.zeros((0, 8, 1), np.uint8), np.ones((0, 8), bool), {}, "at least one pixel"),
        (IMAGE.astype(np.int32), MASK, {}, "holds int32 but must be uint8, or float"),
        (IMAGE.astype(bool), MASK, {}, "holds bool but"),
        (np.full((8, 8), 1.5), MASK, {}, "lie between 1.5 and 1.5 but must lie between 0 and 1"),
        (np.full((8, 8), -0.1), MASK, {}, "between 0 and 1"),
        (np.full((8, 8), np.nan), MASK, {}, "between 0 and 1"),
        (IMAGE, MASK.astype(np.uint8), {}, "mask holds uint8 but must be bool"),
        (IMAGE, np.ones((8, 9), bool), {}, r"mask has shape \(8, 9\) but for this image it must be \(8, 8\)"),
        (IMAGE, np.ones((1, 8, 8, 1), bool), {}, "mask has shape"),
        (np.zeros((2, 8, 8, 1)), np.ones((3, 8, 8, 1), bool), {}, r"or \(2, 8, 8, 1\)"),
        (IMAGE, MASK, {"num_samples": 0}, "num_samples is 0 but must be"),
        (IMAGE, MASK, {"num_samples": 2.0}, "num_samples is 2.0 but must be"),
        (IMAGE, MASK, {"seed": -1}, "seed is -1 but must be"),
        (IMAGE, MASK, {"size": "huge"}, "size is 'huge' but must be"),
        (np.zeros((257, 256)), np.ones((257, 256), bool), {}, "257x256 pixels .*--size=trained"),
    ],
)
def test_bad_arguments(model, image, mask, options, message):
    with pytest.raises(UserError, match=message) as caught:
        model.complete(image, mask, **options)
    assert str(caught.value).count("\n") == 0


def test_large_pictures_go_at_the_trained_size(model):
    result = model.complete(np.zeros((257, 256)), left_half(257, 256), num_samples=2, size="trained")
    assert result.mean.shape == (257, 256, 1)


def run(model, tmp_path, mask="", *, source="in", **options):
    options = {"num_samples": 2, **options}
    return completion_model.complete_files(
        model, input=tmp_path / source, mask=mask and tmp_path / mask, output=tmp_path / "out", **options
    )


def written(tmp_path):
    return sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))


def answers(stem):
    return [f"{stem}_{name}.png" for name in ("mean", "sample_1", "sample_2", "uncertainty")]


@pytest.mark.parametrize("size", completion_model.SIZES)
def test_file_keeps_observed_pixels_bit_for_bit(colour_model, tmp_path, size):
    image, mask = random_image(11, 14, 3), random_mask(11, 14)
    write(tmp_path / "in.png", image)
    write(tmp_path / "mask.png", mask * np.uint8(255))
    assert run(colour_model, tmp_path, "mask.png", source="in.png", size=size) == []
    assert written(tmp_path) == answers("in")
    for name in ("in_sample_1.png", "in_sample_2.png", "in_mean.png"):
        answer = read(tmp_path / "out" / name)
        assert answer.shape == image.shape
        np.testing.assert_array_equal(answer[mask], image[mask])
    uncertainty = read(tmp_path / "out/in_uncertainty.png")
    assert uncertainty.shape == (11, 14) and (uncertainty[mask] == 0).all() and (uncertainty[~mask] > 0).all()
    result = colour_model.complete(image, mask, num_samples=2, size=size)
    np.testing.assert_array_equal(read(tmp_path / "out/in_mean.png"), np.floor(result.mean * 255 + 0.5))


def test_invert_mask(model, tmp_path):
    image, mask = random_image(8, 8), left_half(8, 8)
    write(tmp_path / "in.png", image)
    write(tmp_path / "mask.png", mask * np.uint8(255))
    run(model, tmp_path, "mask.png", source="in.png", invert_mask=True)
    answer = read(tmp_path / "out/in_mean.png")
    np.testing.assert_array_equal(answer[~mask], image[~mask])
    assert (answer[mask] != image[mask]).any()


@pytest.mark.parametrize("invert_mask", [False, True])
def test_alpha_channel_is_the_mask(colour_model, tmp_path, invert_mask):
    image = random_image(8, 8, 4)
    image[..., 3] = np.where(left_half(8, 8), 128, 127)
    mask = left_half(8, 8) ^ invert_mask
    write(tmp_path / "in/a.png", image)
    write(tmp_path / "in/b.png", image[..., :3])
    failures = run(colour_model, tmp_path, invert_mask=invert_mask)
    assert [path for path, _ in failures] == [str(tmp_path / "in/b.png")]
    assert "no alpha channel" in failures[0][1] and "--mask" in failures[0][1]
    assert written(tmp_path) == answers("a")
    answer = read(tmp_path / "out/a_mean.png")
    np.testing.assert_array_equal(answer[mask], image[mask][:, :3])
    assert (answer[~mask] != image[~mask][:, :3]).any()


def test_channels_become_the_models(model, colour_model, tmp_path):
    write(tmp_path / "in.png", random_image(8, 8))
    write(tmp_path / "mask.png", left_half(8, 8) * np.uint8(255))
    run(colour_model, tmp_path, "mask.png", source="in.png")
    assert read(tmp_path / "out/in_mean.png").shape == (8, 8, 3)
    write(tmp_path / "in.png", random_image(8, 8, 3))
    run(model, tmp_path, "mask.png", source="in.png")
    assert read(tmp_path / "out/in_mean.png").shape == (8, 8)


def test_one_mask_for_a_folder_and_failures_do_not_stop_it(model, tmp_path, caplog):
    mask = left_half(8, 8)
    write(tmp_path / "mask.png", mask * np.uint8(255))
    pictures = {name: random_image(8, 8, seed=ord(name[-5])) for name in ("a.png", "sub/b.png", "sub/c.png")}
    for name, image in pictures.items():
        write(tmp_path / "in" / name, image)
    write(tmp_path / "in/wide.png", random_image(8, 9))
    (tmp_path / "in/broken.png").write_bytes((tmp_path / "in/a.png").read_bytes()[:40])
    with caplog.at_level(logging.INFO, "ifanp_jax"):
        failures = dict(run(model, tmp_path, "mask.png", num_samples=2))
    assert set(failures) == {str(tmp_path / "in" / name) for name in ("wide.png", "broken.png")}
    assert "mask has 8x8 pixels" in failures[str(tmp_path / "in/wide.png")]
    assert "is not a picture" in failures[str(tmp_path / "in/broken.png")]
    assert "Completed 3 of 5 pictures" in caplog.text
    assert caplog.text.count(str(tmp_path / "in/wide.png")) == 1
    assert caplog.text.count(str(tmp_path / "in/broken.png")) == 1
    assert written(tmp_path) == sorted(itertools.chain(*map(answers, ("a", "sub/b", "sub/c"))))
    for name, image in pictures.items():
        answer = read(tmp_path / "out" / name.replace(".png", "_sample_1.png"))
        np.testing.assert_array_equal(answer[mask], image[mask])


def test_folder_of_masks(model, tmp_path):
    names = {"a.bmp": "a.png", "sub/b.png": "sub/b.npy", "alone.png": None, "two.png": "two.png"}
    images = {name: random_image(8, 8, seed=index) for index, name in enumerate(names)}
    masks = {name: random_mask(8, 8, seed=index) for index, name in enumerate(names)}
    for name, mask_name in names.items():
        write(tmp_path / "in" / name, images[name])
        if mask_name and mask_name.endswith(".png"):
            write(tmp_path / "masks" / mask_name, masks[name] * np.uint8(255))
    (tmp_path / "masks/sub").mkdir()
    np.save(tmp_path / "masks/sub/b.npy", masks["sub/b.png"])
    np.save(tmp_path / "masks/two.npy", masks["two.png"])
    failures = dict(run(model, tmp_path, "masks"))
    assert "no mask for it" in failures.pop(str(tmp_path / "in/alone.png"))
    assert "2 masks (two.png, two.npy)" in failures.pop(str(tmp_path / "in/two.png"))
    assert not failures
    for name, stem in (("a.bmp", "a"), ("sub/b.png", "sub/b")):
        mask = masks[name]
        np.testing.assert_array_equal(read(tmp_path / f"out/{stem}_mean.png")[mask], images[name][mask])


def test_masks_and_output_below_the_input_are_no_pictures(model, tmp_path):
    write(tmp_path / "in/a.png", random_image(8, 8))
    write(tmp_path / "in/masks/a.png", left_half(8, 8) * np.uint8(255))
    for _ in range(2):
        failures = completion_model.complete_files(
            model,
            input=tmp_path / "in",
            mask=tmp_path / "in/masks",
            output=tmp_path / "in/out",
            num_samples=2,
        )
        assert failures == []
    assert len(list((tmp_path / "in").rglob("*.png"))) == 2 + 4


def test_names_that_clash_keep_their_suffix(model, tmp_path):
    write(tmp_path / "mask.png", left_half(8, 8) * np.uint8(255))
    for name in ("a.png", "A.bmp", "sub/a.png"):
        write(tmp_path / "in" / name, random_image(8, 8))
    assert run(model, tmp_path, "mask.png", num_samples=2) == []
    stems = ("a.png", "A.bmp", "sub/a")
    assert written(tmp_path) == sorted(itertools.chain(*map(answers, stems)))


def test_answers_that_cannot_be_written_are_failures(model, tmp_path):
    write(tmp_path / "in.png", random_image(8, 8))
    write(tmp_path / "mask.png", left_half(8, 8) * np.uint8(255))
    (tmp_path / "out/in_mean.png").mkdir(parents=True)
    ((path, reason),) = run(model, tmp_path, "mask.png", source="in.png")
    assert path == str(tmp_path / "in.png") and "cannot be written" in reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "nothing"}, "There is no input .*nothing"),
        ({"source": "empty"}, "There is no picture to complete below"),
        ({"source": "out"}, "output .* is the input folder itself"),
        ({"mask": "in"}, "mask .* is the input folder itself"),
        ({"mask": "nothing.png"}, "There is no mask .*nothing"),
        ({"mask": "empty"}, "There is no mask below"),
        ({"mask": "text.png"}, "is not a picture"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"size": "small"}, "size is 'small'"),
    ],
)
def test_what_cannot_be_used_for_any_picture(model, tmp_path, options, message):
    write(tmp_path / "in/a.png", random_image(8, 8))
    write(tmp_path / "out/a.png", random_image(8, 8))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UserError, match=message):
        run(model, tmp_path, **options)


@pytest.mark.parametrize("place", ["out", "out/below"])
def test_output_that_is_a_file(model, tmp_path, place):
    write(tmp_path / "in/a.png", random_image(8, 8))
    (tmp_path / "out").write_text("hello")
    with pytest.raises(UserError, match="output"):
        completion_model.complete_files(
            model, input=tmp_path / "in", mask="", output=tmp_path / place, num_samples=2
        )
