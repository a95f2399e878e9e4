"""The bytes of a picture and of a mask in, PNG files out."""

import base64
import io
import time
from typing import Any

import jax
import numpy as np

from ifanp_jax import errors
from ifanp_jax.completion import arguments
from ifanp_jax.completion import pictures as drawing
from ifanp_jax.data import masks, pictures
from ifanp_jax.errors import UserError
from ifanp_jax.web.settings import Served, Settings

FIELDS = ("image", "mask", "num_samples", "seed", "size", "white", "job")
WHITE = ("missing", "observed")


class Answering:
    """Answers forms with one model, one at a time."""

    def __init__(self, served: Served, settings: Settings):
        """For one model and its limits."""
        self.served, self.settings = served, settings
        self._programs = set()

    def describe(self) -> dict[str, Any]:
        """What the page says about the model, and the limits that it keeps to."""
        model, settings = self.served.model, self.settings
        return {
            "name": self.served.name,
            "step": model.step,
            "image_shape": list(model.image_shape),
            "flag": self.served.flag,
            "python": self.served.python,
            "sizes": list(arguments.SIZES),
            "white_uncertainty": drawing.WHITE_UNCERTAINTY,
            "limits": {
                "bytes": settings.max_bytes,
                "pixels": settings.max_pixels,
                "answers": settings.max_samples,
                "answer_pixels": settings.max_answer_pixels,
            },
        }

    def answer(self, fields: dict[str, bytes]) -> dict[str, Any]:
        """Completes.

        Args:
          fields: of FIELDS, as the client sent them.

        Returns:
          What is sent as JSON.

        Raises:
          UserError: for what the client must change.
        """
        started = time.monotonic()
        for name in ("image", "mask"):
            if not fields.get(name):
                raise UserError(f"The field {name} is missing; send a picture file.")
        num_samples = _read_number(fields, "num_samples", 4)
        seed = _read_number(fields, "seed", 0)
        size = fields.get("size", b"own").decode("utf-8", "replace")
        arguments.Options(num_samples, seed, size)  # refuses what is wrong before anything is decoded
        if num_samples > self.settings.max_samples:
            raise UserError(
                f"num_samples is {num_samples} but at most {self.settings.max_samples} are allowed."
            )
        max_pixels = self.settings.max_pixels
        picture = pictures.decode_picture(fields["image"], name="The picture", max_pixels=max_pixels)
        observed = self._read_mask(fields, picture)
        if picture[..., 0].size * num_samples > self.settings.max_answer_pixels:
            raise pictures.TooLargeError(
                f"{num_samples} answers of {picture[..., 0].size:,} pixels are more than the "
                f"{self.settings.max_answer_pixels:,} pixels allowed in all: ask for fewer or send less."
            )
        answer = self._complete(picture, observed, num_samples, seed, size)
        return answer | {"seconds": round(time.monotonic() - started, 3)}

    def _read_mask(self, fields, picture):
        white = fields.get("white", b"missing").decode("utf-8", "replace")
        if white not in WHITE:
            raise UserError(f'white is {white[:20]!r} but must be "missing" or "observed".')
        max_pixels = self.settings.max_pixels
        mask = pictures.decode_picture(fields["mask"], name="The mask", max_pixels=max_pixels)
        if mask.shape[-1] in (2, 4) and (mask[..., -1] < 255).any():
            raise UserError("The mask has transparent pixels: save it in black and white, without alpha.")
        drawing.check_mask_size(mask[..., 0], picture)
        is_white = masks.from_picture(mask)
        observed = ~is_white if white == "missing" else is_white
        if observed.all():
            raise UserError("The mask marks no pixel as missing: there is nothing to complete.")
        return observed

    def _complete(self, picture, observed, num_samples, seed, size):
        model = self.served.model
        picture = pictures.to_channels(picture, model.image_shape[-1])
        self._forget_programs((picture.shape, num_samples, size))
        with errors.full_device('send a smaller picture, ask for fewer answers, or size "trained"'):
            try:
                result = model.complete(picture, observed, num_samples=num_samples, seed=seed, size=size)
            except MemoryError:
                raise UserError("The memory does not suffice: send a smaller picture.") from None
        files = {name: _to_base64(x) for name, x in drawing.to_pictures(result, picture, observed).items()}
        h, w, c = picture.shape
        return {
            "width": w,
            "height": h,
            "channels": c,
            "num_samples": num_samples,
            "seed": seed,
            "size": size,
            "missing_fraction": float(1 - observed.mean()),
            "warnings": _list_warnings(observed, model.image_shape, size),
            "samples": [files[f"sample_{number}"] for number in range(1, num_samples + 1)],
            "mean": files["mean"],
            "uncertainty": files["uncertainty"],
            "white_uncertainty": drawing.WHITE_UNCERTAINTY,
        }

    def _forget_programs(self, program):
        """JAX keeps every compiled program; a client that sends many sizes must not fill the memory."""
        if program not in self._programs and len(self._programs) >= self.settings.max_programs:
            jax.clear_caches()
            self._programs.clear()
        self._programs.add(program)


def _read_number(fields, name, default):
    text = fields.get(name, str(default).encode()).decode("utf-8", "replace")
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise UserError(f"{name} is {text[:20]!r} but must be a whole number.")
    return int(text)


def _list_warnings(observed, image_shape, size):
    warnings = []
    missing, (h, w) = 1 - observed.mean(), observed.shape
    if missing > 0.9:
        warnings.append(f"{missing:.0%} of the picture is to be completed: is the mask inverted?")
    if size == "own" and max(h, w) > 2 * max(image_shape[:2]):
        warnings.append(
            f"The model was trained on pictures of {image_shape[1]}x{image_shape[0]} pixels: large holes may "
            'come out better at the size "trained".'
        )
    return warnings


def _to_base64(values: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values).save(file, "PNG", compress_level=3)
    return base64.b64encode(file.getbuffer()).decode()
