"""A picture as its file holds it."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ifanp_jax.completion import originals
from tests.helpers import left_half, random_image

MASK = left_half(6, 8)
ANSWER = np.random.default_rng(3).random((6, 8, 3), np.float32)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return originals.read(path)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 2), (6, 8, 3), (6, 8, 4)])
def test_what_is_observed_stays_and_so_does_alpha(tmp_path, shape):
    image = random_image(*shape)
    original = save(tmp_path / "a.png", image)
    filled = original.fill(ANSWER, MASK)
    assert filled.dtype == np.uint8 and filled.shape == (6, 8, shape[2] if len(shape) > 2 else 1)
    np.testing.assert_array_equal(filled[MASK], image.reshape(filled.shape)[MASK])
    if len(shape) > 2 and shape[2] in (2, 4):
        np.testing.assert_array_equal(filled[..., -1], image[..., -1])
        opaque = original.fill(ANSWER, MASK, makes_opaque=True)
        assert (opaque[~MASK][:, -1] == 255).all()
        np.testing.assert_array_equal(opaque[MASK], image[MASK])
    colours = filled[~MASK][:, : original.colors.shape[-1]]
    expected = ANSWER if colours.shape[-1] == 3 else (ANSWER @ originals.LUMA)[..., None]
    np.testing.assert_allclose(colours, 255 * expected[~MASK], atol=0.51)


def test_sixteen_bits_of_grey(tmp_path):
    image = np.random.default_rng(0).integers(0, 2**16, (6, 8), np.uint16)
    original = save(tmp_path / "a.png", image)
    assert original.values.dtype == np.uint16 and not original.losses
    given = original.to_model(3)
    np.testing.assert_allclose(given[..., 2], image / 65535, atol=1e-6)
    originals.write(tmp_path / "b.png", original.fill(ANSWER, MASK), metadata=original.metadata)
    again = originals.read(tmp_path / "b.png").values[..., 0]
    np.testing.assert_array_equal(again[MASK], image[MASK])


def test_a_photograph_is_turned_and_keeps_its_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"  # turned by 90 degrees
    original = save(tmp_path / "a.jpg", random_image(6, 8, 3), exif=exif, icc_profile=b"a profile")
    assert original.values.shape == (8, 6, 3)
    originals.write(tmp_path / "b.png", original.values, metadata=original.metadata)
    with Image.open(tmp_path / "b.png") as written:
        assert written.getexif().get(0x010F) == "a maker" and 0x0112 not in written.getexif()
        assert written.info["icc_profile"] == b"a profile"


def write_png(path, values):
    """A PNG of uint16 (H, W, 3), which Pillow does not write."""
    h, w, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_what_is_not_kept_is_said(tmp_path):
    write_png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 2**16, (6, 8, 3), np.uint16))
    assert "16 bits of RGB" in originals.read(tmp_path / "a.png").losses[0]
    Image.fromarray(random_image(6, 8, 3)).convert("CMYK").save(
        tmp_path / "a.jpg", icc_profile=b"of four inks"
    )
    original = originals.read(tmp_path / "a.jpg")
    assert "the colour space CMYK" in original.losses[0] and "icc_profile" not in original.metadata
    frames = [Image.fromarray(random_image(6, 8, seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert originals.read(tmp_path / "a.gif").losses == ("2 further frames",)


def test_a_grey_answer_for_a_colour_picture_is_grey(tmp_path):
    original = save(tmp_path / "a.png", random_image(6, 8, 4))
    assert not original.keeps_colors(1)
    assert original.fill(ANSWER[..., :1], MASK).shape == (6, 8, 1)
