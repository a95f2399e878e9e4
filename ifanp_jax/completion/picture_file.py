"""A user's picture as its file holds it, and the same picture with its missing pixels filled.

PNG keeps grey and colours of 8 and 16 bits, transparency, EXIF and the colour profile. What is not kept is
said.
"""

import dataclasses
import io
import pathlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from ifanp_jax.completion import sixteen_bits
from ifanp_jax.data import image_ops

LUMA = np.float32([0.299, 0.587, 0.114])  # ITU-R BT.601
OWN_COLORS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", *image_ops.SIXTEEN_BIT)


@dataclasses.dataclass(frozen=True, eq=False)
class Original:
    """A picture.

    Attributes:
      values: uint8 or uint16 (H, W, C); C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
      metadata: options of Pillow's `save`: EXIF, colour profile, resolution.
      losses: what the file holds and a written PNG does not, in words.
    """

    values: np.ndarray
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    losses: tuple[str, ...] = ()

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.values.shape[-1] in (2, 4)

    @property
    def colors(self) -> np.ndarray:
        """The channels but alpha."""
        return self.values[..., : self.values.shape[-1] - self.has_alpha]

    @property
    def eight_bits(self) -> np.ndarray:
        """The values as uint8 (H, W, C)."""
        return image_ops.to_eight_bits(self.values)

    def to_model(self, channels: int) -> np.ndarray:
        """What a model takes: uint8, or float32 in [0, 1] for 16 bits; (H, W, channels)."""
        values = image_ops.to_channels(self.values, channels)
        return values.astype(np.float32) / 65535 if values.dtype == np.uint16 else values

    def keeps_colors(self, channels: int) -> bool:
        """Whether a model of so many channels gives an answer in this picture's colours."""
        return channels == 3 or self.colors.shape[-1] == 1

    def get_metadata(self, channels: int) -> dict[str, Any]:
        """The metadata of an answer by a model of so many channels: a grey one has no profile of colours."""
        kept = self.keeps_colors(channels)
        return {name: value for name, value in self.metadata.items() if kept or name != "icc_profile"}

    def extend(self, left: int, top: int, right: int, bottom: int) -> "Original":
        """The picture on a larger canvas: so many pixels are added, with values that mean nothing."""
        values = np.pad(self.values, ((top, bottom), (left, right), (0, 0)))
        return dataclasses.replace(self, values=values)

    def list_losses(self, name: str, channels: int) -> list[str]:
        """What an answer of a model of so many channels does not keep, as a sentence, or nothing."""
        losses = list(self.losses)
        if not self.keeps_colors(channels):
            losses.append("colours, as the model knows grey pictures alone")
        return [f"{name}: the answers do not keep {' and '.join(losses)}."] if losses else []

    def fill(self, answer: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """The picture with its missing pixels from an answer, the others as they are.

        Filled pixels that were transparent become opaque.

        Args:
          answer: float32 (H, W, 1 or 3) in [0, 1].
          observed: bool (H, W).

        Returns:
          Like `values`; without alpha and grey for a colour picture whose answer is grey.
        """
        colors, channels = self.colors, answer.shape[-1]
        if not self.keeps_colors(channels):
            return Original(image_ops.to_channels(colors, 1)).fill(answer, observed)
        if channels > colors.shape[-1]:
            answer = (answer @ LUMA)[..., None]
        top = np.iinfo(colors.dtype).max
        filled = np.where(observed[..., None], colors, np.floor(answer * top + 0.5).astype(colors.dtype))
        if not self.has_alpha:
            return filled
        alpha = self.values[..., -1:]
        is_seen = self.eight_bits[..., -1:] >= image_ops.OPAQUE
        alpha = np.where(observed[..., None] | is_seen, alpha, alpha.dtype.type(top))
        return np.concatenate([filled, alpha], axis=-1)


def read(path: str | pathlib.Path) -> Original:
    """Reads a picture file, turned by its EXIF orientation; raises as `image_ops.read_picture`."""
    return image_ops.read_with(path, lambda picture: _convert(picture, str(path), lambda: pathlib.Path(path)))


def decode(data: bytes, *, name: str, max_pixels: int = image_ops.MAX_PIXELS) -> Original:
    """Reads the bytes of a picture file, like `read`; error messages call it `name`."""
    convert = lambda picture: _convert(picture, name, lambda: io.BytesIO(data))  # noqa: E731
    return image_ops.decode_with(data, convert, name=name, max_pixels=max_pixels)


def write(
    file: BinaryIO, values: np.ndarray, *, metadata: dict[str, Any] | None = None, **options: Any
) -> None:
    """Writes a PNG of uint8 or uint16 (H, W, 1 to 4); `options` are of Pillow's `save`, for 8 bits alone."""
    from PIL import Image

    if values.dtype == np.uint16:
        sixteen_bits.write(file, values, metadata or {})
        return
    picture = Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)
    picture.save(file, "PNG", **(metadata or {}), **options)


def _convert(picture, name, get_source: Callable) -> Original:
    """The original of an opened picture; `get_source` gives what it was opened from, to open it again."""
    from PIL import Image, ImageOps

    losses = []
    has_16_bits = any(";16" in str(tile) for tile in picture.tile)  # a fact of the file, before it is decoded
    rule = sixteen_bits.find_rule(picture)
    if has_16_bits and rule is None and picture.mode not in image_ops.SIXTEEN_BIT:
        losses.append(f"16 bits of {picture.mode} (the answers have 8; grey and RGB keep 16)")
    if getattr(picture, "n_frames", 1) > 1:
        losses.append(f"{picture.n_frames - 1} further frames")
    mode, profile = picture.mode, picture.info.get("icc_profile")
    if mode not in OWN_COLORS:
        losses.append(f"the colour space {mode} (the answers are RGB)")
        profile = None  # it describes other channels
    resolution, key = picture.info.get("dpi"), picture.info.get("transparency")
    picture = ImageOps.exif_transpose(picture)
    exif = picture.getexif()
    metadata = {"icc_profile": profile, "exif": exif.tobytes() if len(exif) else None, "dpi": resolution}
    metadata = {key: value for key, value in metadata.items() if value}
    if mode in image_ops.SIXTEEN_BIT:
        values = _add_alpha(np.asarray(picture).astype(np.uint16)[..., None], key)
    elif rule is not None:
        with Image.open(get_source(), formats=image_ops.FORMATS) as again:
            values = sixteen_bits.read(np.asarray(picture), rule, again, ImageOps.exif_transpose)
        values = _add_alpha(values, key)
    else:
        values = image_ops.to_array(picture, name)
    return Original(values, metadata, tuple(losses))


def _add_alpha(values, key):
    """Values of 16 bits with an alpha channel, where the file names a colour that is transparent."""
    if key is None or values.shape[-1] not in (1, 3):
        return values
    alpha = np.where((values == np.asarray(key)).all(axis=-1, keepdims=True), np.uint16(0), np.uint16(65535))
    return np.concatenate([values, alpha], axis=-1)
