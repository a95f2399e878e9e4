"""A picture as its file holds it."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ifanp_jax.completion import picture_file
from ifanp_jax.errors import UserError
from tests.helpers import left_half, random_image

MASK = left_half(6, 8)
EXIF = Image.Exif()
EXIF[0x010F] = "a maker"
METADATA = {"exif": EXIF.tobytes(), "icc_profile": b"a profile", "dpi": (300, 300)}
ANSWER = np.random.default_rng(3).random((6, 8, 3), np.float32)


def write_png(path, values, *, key=None):
    """A PNG of uint16 (H, W, C), without a filter; pixels of the colour `key` are transparent."""
    h, w, c = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", w, h, 16, (0, 4, 2, 6)[c - 1], 0, 0, 0)),
        *([] if key is None else [(b"tRNS", key.astype(">u2").tobytes())]),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def write(path, values, metadata):
    with path.open("wb") as file:
        picture_file.write(file, values, metadata=metadata)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return picture_file.read(path)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 2), (6, 8, 3), (6, 8, 4)])
def test_what_is_observed_stays_and_so_does_alpha(tmp_path, shape):
    image = random_image(*shape)
    original = save(tmp_path / "a.png", image)
    filled = original.fill(ANSWER, MASK)
    assert filled.dtype == np.uint8 and filled.shape == (6, 8, shape[2] if len(shape) > 2 else 1)
    np.testing.assert_array_equal(filled[MASK], image.reshape(filled.shape)[MASK])
    if original.has_alpha:  # what is filled is seen
        alpha = image[~MASK][:, -1]
        np.testing.assert_array_equal(filled[~MASK][:, -1], np.where(alpha < 128, 255, alpha))
    colours = filled[~MASK][:, : original.colors.shape[-1]]
    expected = ANSWER if colours.shape[-1] == 3 else (ANSWER @ picture_file.LUMA)[..., None]
    np.testing.assert_allclose(colours, 255 * expected[~MASK], atol=0.51)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_stay_as_they_are(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 2**16, (6, 8, channels), np.uint16)
    write_png(tmp_path / "a.png", image)
    original = picture_file.read(tmp_path / "a.png")
    np.testing.assert_array_equal(original.values, image)
    assert original.values.dtype == np.uint16 and not original.losses
    grey, colours = original.to_model(1), original.to_model(3)
    expected = image[..., :3] if channels > 2 else np.repeat(image[..., :1], 3, axis=-1)
    np.testing.assert_allclose(colours, expected / 65535, atol=1e-6)
    np.testing.assert_allclose(grey[..., 0], colours @ picture_file.LUMA, atol=1e-4)
    filled = original.fill(ANSWER, MASK)
    write(tmp_path / "b.png", filled, METADATA)
    with Image.open(tmp_path / "b.png") as written:
        assert written.info["icc_profile"] == b"a profile" and written.getexif()[0x010F] == "a maker"
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    again = picture_file.read(tmp_path / "b.png").values
    np.testing.assert_array_equal(again[MASK], image[MASK])
    np.testing.assert_array_equal(again, filled)


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib", "predictor": True}])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_of_a_tiff(tmp_path, channels, options):
    tifffile = pytest.importorskip("tifffile")
    image = np.random.default_rng(0).integers(0, 2**16, (6, 8, channels), np.uint16)
    kind = {"photometric": "rgb", "extrasamples": ["unassalpha"] * (channels - 3)}
    tifffile.imwrite(tmp_path / "a.tif", image, **kind, **options)
    original = picture_file.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(original.values, image)
    tifffile.imwrite(tmp_path / "b.tif", np.moveaxis(image, -1, 0), planarconfig="separate", **kind)
    with pytest.raises(UserError, match="a plane per colour"):
        picture_file.read(tmp_path / "b.tif")


def test_sixteen_bits_are_turned_and_a_colour_may_be_transparent(tmp_path):
    image = np.random.default_rng(0).integers(0, 2**16, (6, 8, 3), np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    write(tmp_path / "a.png", image, {"exif": exif.tobytes()})
    np.testing.assert_array_equal(picture_file.read(tmp_path / "a.png").values, np.rot90(image, -1))
    write_png(tmp_path / "b.png", image, key=image[1, 2])
    values = picture_file.read(tmp_path / "b.png").values
    assert values[1, 2, 3] == 0 and (values[..., 3] == 65535).sum() == 47


def test_a_photograph_is_turned_and_keeps_its_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"  # turned by 90 degrees
    original = save(tmp_path / "a.jpg", random_image(6, 8, 3), exif=exif, icc_profile=b"a profile")
    assert original.values.shape == (8, 6, 3)
    write(tmp_path / "b.png", original.values, original.metadata)
    with Image.open(tmp_path / "b.png") as written:
        assert written.getexif().get(0x010F) == "a maker" and 0x0112 not in written.getexif()
        assert written.info["icc_profile"] == b"a profile"


def test_what_is_not_kept_is_said(tmp_path):
    Image.fromarray(random_image(6, 8, 3)).convert("CMYK").save(
        tmp_path / "a.jpg", icc_profile=b"of four inks"
    )
    original = picture_file.read(tmp_path / "a.jpg")
    assert "the colour space CMYK" in original.losses[0] and "icc_profile" not in original.metadata
    frames = [Image.fromarray(random_image(6, 8, seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert picture_file.read(tmp_path / "a.gif").losses == ("2 further frames",)


def test_a_grey_answer_for_a_colour_picture_is_grey(tmp_path):
    original = save(tmp_path / "a.png", random_image(6, 8, 4))
    assert not original.keeps_colors(1)
    assert original.fill(ANSWER[..., :1], MASK).shape == (6, 8, 1)
