"""Colours of 16 bits, which Pillow opens with 8 and does not write.

Pillow decodes such a file by one of two rules: the first byte of every value ("16B"), or the second ("16L").
So reading it by both gives all 16 bits, with Pillow's own decoders. Writing is a small PNG encoder.
"""

import functools
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

GREY_AND_ALPHA = "LA;16B"  # four bytes per pixel, so "RGBA" gives them all
COLORS = ("RGB", "RGBA")
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by the number of channels
ROWS_AT_ONCE = 256
METERS_PER_INCH = 0.0254


def find_rule(picture) -> str | None:
    """By which rule the other bytes of a picture are read; None where Pillow gives all, or cannot."""
    rules = {tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in picture.tile}
    rule = rules.pop() if len(rules) == 1 else ""
    if rule == GREY_AND_ALPHA:
        return "RGBA"
    colors, _, order = str(rule).partition(";16")
    if colors != picture.mode or colors not in COLORS or order not in ("B", "L", "N"):
        return None
    own = sys.byteorder[0].upper() if order == "N" else order
    return f"{colors};16{'B' if own == 'L' else 'L'}"


def read(high: np.ndarray, rule: str, again, turn: Callable) -> np.ndarray:
    """All bits of a picture.

    Args:
      high: uint8 (H, W, 3 or 4), as Pillow decodes it.
      again: the same `PIL.Image.Image`, opened a second time and not yet decoded.

    Returns:
      uint16 (H, W, 2 to 4).
    """
    # A tile of Pillow is (decoder, extents, offset, arguments), where arguments are a rule or begin with one.
    for number, tile in enumerate(again.tile):
        arguments = rule if isinstance(tile[3], str) else (rule, *tile[3][1:])
        again.tile[number] = tile._replace(args=arguments)
    other = np.asarray(turn(again)).astype(np.uint16)
    if rule == "RGBA":
        return other[..., 0::2] * 256 + other[..., 1::2]
    return high.astype(np.uint16) * 256 + other


def write(file: BinaryIO, values: np.ndarray, metadata: dict[str, Any]) -> None:
    """Writes a PNG.

    Args:
      values: uint16 (H, W, 1 to 4).
      metadata: `icc_profile`, `exif` and `dpi`, or some of them.
    """
    from PIL import PngImagePlugin

    (h, w, c), put = values.shape, functools.partial(PngImagePlugin.putchunk, file)
    file.write(b"\x89PNG\r\n\x1a\n")
    put(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, COLOR_TYPES[c], 0, 0, 0))
    if "icc_profile" in metadata:
        put(b"iCCP", b"profile\0\0" + zlib.compress(metadata["icc_profile"]))
    if "dpi" in metadata:
        per_meter = [round(float(value) / METERS_PER_INCH) for value in metadata["dpi"]]
        put(b"pHYs", struct.pack(">IIB", *per_meter, 1))
    if "exif" in metadata:
        put(b"eXIf", metadata["exif"].removeprefix(b"Exif\0\0"))
    encoder = zlib.compressobj()
    for top in range(0, h, ROWS_AT_ONCE):
        put(b"IDAT", encoder.compress(_filter(values[top : top + ROWS_AT_ONCE])))
    put(b"IDAT", encoder.flush())
    put(b"IEND")


def _filter(values):
    """Bytes of rows by PNG's filter 1: every byte less that of the pixel to its left."""
    h, _, c = values.shape
    rows = np.ascontiguousarray(values, ">u2").view(np.uint8).reshape(h, -1)
    filtered = np.ones((h, 1 + rows.shape[1]), np.uint8)  # each row begins with the number of its filter
    filtered[:, 1:] = rows
    filtered[:, 1 + 2 * c :] -= rows[:, : -2 * c]
    return filtered.tobytes()
