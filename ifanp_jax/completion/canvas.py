"""A larger canvas: what is added around a picture is missing."""

import re
from typing import NamedTuple

import numpy as np

from ifanp_jax.completion.picture_file import Original
from ifanp_jax.data import image_ops
from ifanp_jax.errors import UserError

LENGTH = re.compile(r"(\d+)(%?)", re.ASCII)
MAX_PERCENT = 100  # of the picture's side


class Border(NamedTuple):
    """What is added at each side: pixels, or a part of the picture's width or height."""

    left: int | float = 0  # int: pixels; float: of the side
    top: int | float = 0
    right: int | float = 0
    bottom: int | float = 0

    @classmethod
    def parse(cls, text: str) -> "Border":
        """Reads "LEFT,TOP,RIGHT,BOTTOM", each in pixels as 80, or in percent as 10%; "" adds nothing.

        Raises:
          UserError: when it has another form.
        """
        parts = [LENGTH.fullmatch(part.strip()) for part in text.split(",")] if text else []
        if text and (len(parts) != 4 or not all(parts)):
            raise UserError(
                f"--extend={text} must be LEFT,TOP,RIGHT,BOTTOM in pixels or percent, as 0,0,200,0 or "
                "10%,0,10%,0."
            )
        if any(part[2] and int(part[1]) > MAX_PERCENT for part in parts):
            raise UserError(f"--extend={text} adds more than {MAX_PERCENT}% at a side: give less.")
        return cls(*(int(part[1]) / 100 if part[2] else int(part[1]) for part in parts))

    def add(self, original: Original, observed: np.ndarray) -> tuple[Original, np.ndarray]:
        """The picture and its mask, bool (H, W), on the larger canvas.

        Raises:
          UserError: when it would have too many pixels.
        """
        if not any(self):
            return original, observed
        height, width = observed.shape
        sides = zip(self, (width, height, width, height), strict=True)
        left, top, right, bottom = (x if isinstance(x, int) else round(x * side) for x, side in sides)
        pixels = (height + top + bottom) * (width + left + right)
        if pixels > image_ops.MAX_PIXELS:
            raise UserError(
                f"--extend makes {pixels:,} pixels of it, more than the {image_ops.MAX_PIXELS:,} allowed: "
                "add less."
            )
        observed = np.pad(observed, ((top, bottom), (left, right)))
        return original.extend(left, top, right, bottom), observed
