"""A user's picture as its file holds it, and the same picture with its missing pixels filled.

PNG keeps grey and colours of 8 bits, grey of 16 bits, transparency, EXIF and the colour profile. Pillow reads
and writes no colours of 16 bits. What is not kept is said.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from ifanp_jax.data import pictures

LUMA = np.float32([0.299, 0.587, 0.114])  # ITU-R BT.601
OWN_COLORS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", *pictures.SIXTEEN_BIT)


@dataclasses.dataclass(frozen=True, eq=False)
class Original:
    """A picture.

    Attributes:
      values: uint8 or, of grey, uint16 (H, W, C); C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
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

    def to_model(self, channels: int) -> np.ndarray:
        """What a model of so many channels takes: uint8, or float32 in [0, 1] for 16 bits, (H, W, channels).

        Args:
          channels: 1 or 3.
        """
        if self.values.dtype == np.uint16:
            return np.repeat(self.values.astype(np.float32) / 65535, channels, axis=-1)
        return pictures.to_channels(self.values, channels)

    def keeps_colors(self, channels: int) -> bool:
        """Whether a model of so many channels gives an answer in this picture's colours."""
        return channels == 3 or self.colors.shape[-1] == 1

    def fill(self, answer: np.ndarray, observed: np.ndarray, *, makes_opaque: bool = False) -> np.ndarray:
        """The picture with its missing pixels from an answer, the others as they are.

        Args:
          answer: float32 (H, W, 1 or 3) in [0, 1].
          observed: bool (H, W).
          makes_opaque: whether the filled pixels become opaque; else alpha stays as it is.

        Returns:
          Like `values`; without alpha and grey for a colour picture whose answer is grey.
        """
        colors, channels = self.colors, answer.shape[-1]
        if not self.keeps_colors(channels):
            return Original(pictures.to_channels(colors, 1)).fill(answer, observed)
        if channels > colors.shape[-1]:
            answer = (answer @ LUMA)[..., None]
        top = np.iinfo(colors.dtype).max
        filled = np.where(observed[..., None], colors, np.floor(answer * top + 0.5).astype(colors.dtype))
        if not self.has_alpha:
            return filled
        alpha = self.values[..., -1:]
        alpha = np.where(observed[..., None], alpha, top).astype(alpha.dtype) if makes_opaque else alpha
        return np.concatenate([filled, alpha], axis=-1)


def read(path: str | pathlib.Path) -> Original:
    """Reads a picture file, turned by its EXIF orientation.

    Args:
      path: the file.

    Raises:
      UserError: as `pictures.read_picture`.
    """
    return pictures.read_with(path, lambda picture: _convert(picture, str(path)))


def write(path: str | pathlib.Path, values: np.ndarray, *, metadata: dict[str, Any] | None = None) -> None:
    """Writes a PNG.

    Args:
      path: the file.
      values: uint8 (H, W, 1 to 4), or uint16 (H, W, 1).
      metadata: of `Original`.
    """
    from PIL import Image

    Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values).save(path, "PNG", **(metadata or {}))


def _convert(picture, name):
    from PIL import ImageOps

    losses = []
    has_16_bits = any(";16" in str(tile) for tile in picture.tile)  # a fact of the file, before it is decoded
    if has_16_bits and picture.mode not in pictures.SIXTEEN_BIT:
        losses.append(f"16 bits of {picture.mode} (the answers have 8; only grey keeps 16)")
    if getattr(picture, "n_frames", 1) > 1:
        losses.append(f"{picture.n_frames - 1} further frames")
    mode, profile = picture.mode, picture.info.get("icc_profile")
    if mode not in OWN_COLORS:
        losses.append(f"the colour space {mode} (the answers are RGB)")
        profile = None  # it describes other channels
    resolution = picture.info.get("dpi")
    picture = ImageOps.exif_transpose(picture)
    exif = picture.getexif()
    metadata = {"icc_profile": profile, "exif": exif.tobytes() if len(exif) else None, "dpi": resolution}
    metadata = {key: value for key, value in metadata.items() if value}
    if mode in pictures.SIXTEEN_BIT:
        return Original(np.asarray(picture).astype(np.uint16)[..., None], metadata, tuple(losses))
    return Original(pictures.to_array(picture, name), metadata, tuple(losses))
