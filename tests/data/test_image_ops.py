import io
import json
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ifanp_jax.data import image_ops
from ifanp_jax.errors import UserError

SHARED = pathlib.Path(__file__).parents[2].parent / "shared"


def random_image(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize(("shape", "channels"), [((5, 7), 1), ((5, 7, 2), 2), ((5, 7, 3), 3), ((5, 7, 4), 4)])
def test_read_picture_keeps_every_value(tmp_path, shape, channels):
    image = random_image(*shape)
    read = image_ops.read_picture(write(tmp_path / "a.png", image))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, image.reshape(5, 7, channels))


def test_read_picture_converts_palette_one_bit_and_cmyk(tmp_path):
    palette = Image.fromarray(random_image(6, 6, 3)).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "p.png")
    palette.save(tmp_path / "t.png", transparency=0)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(image_ops.read_picture(tmp_path / "p.png"), expected)
    transparent = image_ops.read_picture(tmp_path / "t.png")
    assert transparent.shape == (6, 6, 4) and set(np.unique(transparent[..., 3])) == {0, 255}

    bits = random_image(6, 6) > 127
    np.testing.assert_array_equal(image_ops.read_picture(write(tmp_path / "b.png", bits))[..., 0], bits * 255)

    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "c.tif")
    np.testing.assert_array_equal(image_ops.read_picture(tmp_path / "c.tif")[0, 0], [255, 0, 0])


def test_read_picture_scales_16_bits(tmp_path):
    values = np.array([[0, 257, 128], [129, 65535, 32768]], np.uint16)
    for name in ("a.png", "a.tif"):
        read = image_ops.read_picture(write(tmp_path / name, values))
        np.testing.assert_array_equal(read[..., 0], [[0, 1, 0], [1, 255, 128]])


def test_read_picture_applies_exif_orientation(tmp_path):
    image = random_image(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    read = image_ops.read_picture(write(tmp_path / "a.png", image, exif=exif))
    np.testing.assert_array_equal(read, np.rot90(image, -1))


def test_read_picture_refuses_what_it_cannot_read(tmp_path):
    with pytest.raises(UserError, match="no picture file"):
        image_ops.read_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UserError, match=r"text\.png is not a picture"):
        image_ops.read_picture(tmp_path / "text.png")
    for suffix in ("jpg", "png", "webp"):
        whole = write(tmp_path / f"whole.{suffix}", random_image(40, 40, 3)).read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=rf"cut\.{suffix}"):
            image_ops.read_picture(tmp_path / f"cut.{suffix}")
    with pytest.raises(UserError, match="is a float picture"):
        image_ops.read_picture(write(tmp_path / "f.tif", np.zeros((4, 4), np.float32)))
    with pytest.raises(UserError, match="32-bit integer picture"):
        image_ops.read_picture(write(tmp_path / "i.tif", np.zeros((4, 4), np.int32)))


@pytest.mark.parametrize("side", [8_001, 9_600, 50_000])
def test_read_picture_refuses_giants_before_decoding(tmp_path, side):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    with pytest.raises(UserError, match=r"more than 64,000,000 pixels"):
        image_ops.read_picture(tmp_path / "a.png")


def test_decode_picture_equals_read_picture(tmp_path):
    image = random_image(5, 7, 3)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    np.testing.assert_array_equal(image_ops.decode_picture(buffer.getvalue(), name="x"), image)
    with pytest.raises(UserError, match=r"^x is not a picture"):
        image_ops.decode_picture(b"abc", name="x")


def test_crop():
    image = random_image(2, 7, 10, 3)
    np.testing.assert_array_equal(image_ops.crop(image), image[:, :, 1:8])
    np.testing.assert_array_equal(image_ops.crop(image, size=4), image[:, 1:5, 3:7])
    np.testing.assert_array_equal(image_ops.crop(image, box=(5, 6, 2, 4)), image[:, 5:7, 6:10])


@pytest.mark.parametrize("options", [{"size": 8}, {"box": (5, 6, 3, 4)}, {"box": (-1, 0, 2, 2)}])
def test_crop_that_does_not_fit(options):
    with pytest.raises(UserError, match="does not fit into an image of 7x10"):
        image_ops.crop(random_image(7, 10, 3), **options)


def test_resize_area_by_whole_factors_is_the_block_mean():
    image = random_image(3, 12, 8, 2)
    mean = image.reshape(3, 4, 3, 2, 4, 2).mean(axis=(2, 4))
    resized = image_ops.resize_area(image.astype(np.float64), 4, 2)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, mean, rtol=1e-5)
    # Pillow rounds after each axis.
    rounded = image_ops.resize_area(image, 4, 2)
    assert rounded.dtype == np.uint8
    np.testing.assert_allclose(rounded, mean, atol=1.01)


@pytest.mark.parametrize("size", [(5, 4), (20, 30), (5, 30), (20, 4), (13, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resize_area_takes_each_channel_and_image_on_its_own(size, dtype):
    images = random_image(2, 13, 17, 4).astype(dtype)
    resized = image_ops.resize_area(images, *size)
    assert resized.shape == (2, *size, 4) and resized.dtype == dtype
    for image, channel in np.ndindex(2, 4):
        plane = image_ops.resize_area(images[image, :, :, channel, None], *size)
        np.testing.assert_array_equal(resized[image, :, :, channel], plane[..., 0])


@pytest.mark.parametrize(("size", "name"), [((6, 7), "BOX"), ((32, 40), "BILINEAR")])
def test_resize_area_equals_pillow(size, name):
    image = random_image(15, 18, 3)
    expected = Image.fromarray(image).resize(size[::-1], Image.Resampling[name])
    np.testing.assert_array_equal(image_ops.resize_area(image, *size), np.asarray(expected))


def test_resize_area_upscales_linearly():
    ramp = np.arange(4, dtype=np.float32)[None, :, None].repeat(4, axis=0)
    expected = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3)
    np.testing.assert_allclose(image_ops.resize_area(ramp, 8, 8)[3, :, 0], expected, rtol=1e-6)
    with pytest.raises(UserError, match="both sides must be at least 1"):
        image_ops.resize_area(ramp, 0, 8)


def test_resize_area_keeps_constant_images():
    for value in (0, 1, 127, 255):
        image = np.full((37, 53, 3), value, np.uint8)
        assert (image_ops.resize_area(image, 11, 13) == value).all()
        assert (image_ops.resize_area(image, 64, 80) == value).all()


def test_to_channels():
    image = random_image(4, 5, 3)
    grey = image_ops.to_channels(image, 1)
    luma = image @ np.array([0.299, 0.587, 0.114])
    assert grey.shape == (4, 5, 1) and grey.dtype == np.uint8
    np.testing.assert_array_equal(grey[..., 0], np.floor(luma + 0.5 + 1e-9))
    np.testing.assert_array_equal(image_ops.to_channels(grey, 3), grey.repeat(3, axis=-1))
    np.testing.assert_array_equal(
        image_ops.to_channels(random_image(4, 5, 4), 0), random_image(4, 5, 4)[..., :3]
    )
    assert image_ops.to_channels(random_image(4, 5, 2), 0).shape == (4, 5, 1)
    with pytest.raises(UserError, match="only 1"):
        image_ops.to_channels(image, 2)
    with pytest.raises(UserError, match="has 5 channels"):
        image_ops.to_channels(random_image(4, 5, 5), 1)


def test_apply_recipe_in_chunks_equals_one_by_one():
    images = random_image(5, 9, 12, 3)
    recipe = image_ops.Recipe(image_size=4, channels=1)
    chunked = image_ops.apply_recipe_in_chunks(images, recipe, chunk_size=2)
    np.testing.assert_array_equal(
        chunked, np.stack([image_ops.apply_recipe(image, recipe) for image in images])
    )
    np.testing.assert_array_equal(image_ops.apply_recipe_in_chunks(images, image_ops.Recipe()), images)


def load_celeba_sheets(num_images):
    count = json.loads((SHARED / "data/celeba32/index.json").read_text())["val"]["count"]
    sheet = np.asarray(Image.open(SHARED / "data/celeba32/val-00.webp"))
    rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
    images = sheet.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)
    return images[: min(num_images, count)]


@pytest.mark.skipif(not (SHARED / "data/celeba32").is_dir(), reason="the shared CelebA pictures are not here")
def test_celeba_recipe_equals_the_prepared_pictures():
    recipe = image_ops.Recipe(image_size=32, crop_size=148)
    paths = sorted((SHARED / "data/celeba_originals").glob("*.jpg"))[:100]
    ours = [image_ops.apply_recipe(image_ops.read_picture(path), recipe) for path in paths]
    np.testing.assert_array_equal(np.stack(ours), load_celeba_sheets(100))
