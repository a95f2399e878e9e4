"""The bytes of a picture and of a mask in, PNG files out."""

import base64
import io
import time
from typing import Any

import jax
import numpy as np

from ifanp_jax import errors
from ifanp_jax.completion import mask_files, picture_file, preview
from ifanp_jax.data import image_ops, masks
from ifanp_jax.errors import UserError
from ifanp_jax.inference.options import FILLS, SIZES, CompletionOptions
from ifanp_jax.inference.progress import Listener
from ifanp_jax.web.settings import Served, Settings

FIELDS = (
    "image", "mask", "white", "num_samples", "num_completed", "seed", "size", "rounds", "fill", "grain",
    "job",
)  # fmt: skip
WHITE = ("missing", "observed")
GRAIN = {"auto": None, "yes": True, "no": False}


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
            "sizes": list(SIZES),
            "fills": list(FILLS),
            "white_uncertainty": preview.WHITE_UNCERTAINTY,
            "limits": {
                "bytes": settings.max_bytes,
                "pixels": settings.max_pixels,
                "answers": settings.max_samples,
                "rounds": settings.max_rounds,
                "answer_pixels": settings.max_answer_pixels,
            },
        }

    def answer(self, fields: dict[str, bytes], *, on_progress: Listener | None = None) -> dict[str, Any]:
        """Completes what the client sent, of FIELDS, as JSON; a UserError says what it must change."""
        started = time.monotonic()
        for name in ("image", "mask"):
            if not fields.get(name):
                raise UserError(f"The field {name} is missing; send a picture file.")
        options = self._read_options(fields)
        max_pixels = self.settings.max_pixels
        original = picture_file.decode(fields["image"], name="The picture", max_pixels=max_pixels)
        observed = self._read_mask(fields, original.values)
        num_answers = options.num_samples + options.num_completed - 1
        if observed.size * num_answers > self.settings.max_answer_pixels:
            raise image_ops.TooLargeError(
                f"{num_answers} answers of {observed.size:,} pixels are more than the "
                f"{self.settings.max_answer_pixels:,} pixels allowed in all: ask for fewer or send less."
            )
        answer = self._complete(original, observed, options, on_progress)
        return answer | {"seconds": round(time.monotonic() - started, 3)}

    def _read_options(self, fields):
        numbers = {"num_samples": 4, "num_completed": 1, "seed": 0, "rounds": None}  # rounds: the model's own
        limits = {"num_samples": self.settings.max_samples, "rounds": self.settings.max_rounds}
        for name in numbers:
            text = _read_text(fields, name)
            if not text and (name == "rounds" or name not in fields):
                continue
            if not (text.isascii() and text.isdecimal() and len(text) < 12):
                raise UserError(f"{name} is {text[:20]!r} but must be a whole number.")
            numbers[name] = int(text)
            if name in limits and numbers[name] > limits[name]:
                raise UserError(f"{name} is {text} but at most {limits[name]} are allowed.")
        grain = _read_text(fields, "grain", "auto")
        if grain not in GRAIN:
            raise UserError(f"grain is {grain[:20]!r} but must be {', '.join(GRAIN)}.")
        words = {name: _read_text(fields, name, "auto") for name in ("size", "fill")}
        return CompletionOptions(grain=GRAIN[grain], **words, **numbers)

    def _read_mask(self, fields, picture):
        white = _read_text(fields, "white", "missing")
        if white not in WHITE:
            raise UserError(f'white is {white[:20]!r} but must be "missing" or "observed".')
        max_pixels = self.settings.max_pixels
        mask = image_ops.decode_picture(fields["mask"], name="The mask", max_pixels=max_pixels)
        mask_files.check_opaque(mask, "The mask")
        mask_files.check_size(mask[..., 0], picture)
        is_white = masks.from_picture(mask)
        observed = ~is_white if white == "missing" else is_white
        if observed.all():
            raise UserError("The mask marks no pixel as missing: there is nothing to complete.")
        return observed

    def _complete(self, original, observed, options, on_progress):
        model = self.served.model
        picture = original.to_model(model.image_shape[-1])
        wanted = model.with_rounds(options)
        self._forget_programs((picture.shape, wanted.num_samples, wanted.size, wanted.rounds))
        with errors.full_device('send a smaller picture, ask for fewer answers, or size "trained"'):
            try:
                result = model.complete(picture, observed, options=options, on_progress=on_progress)
            except MemoryError:
                raise UserError("The memory does not suffice: send a smaller picture.") from None
        drawn = preview.to_pictures(result, original, observed)
        own = original.get_metadata(model.image_shape[-1])
        files = {name: _to_base64(x, None if name == "uncertainty" else own) for name, x in drawn.items()}
        h, w, c = drawn["mean"].shape
        # Say so where several answers were wanted and all are the same.
        are_equal = options.num_samples > 1 and result.rounds < wanted.rounds
        return {
            "width": w,
            "height": h,
            "channels": c,
            "bits": 8 * drawn["mean"].itemsize,
            "num_samples": options.num_samples,
            "seed": options.seed,
            "size": options.size,
            "fill": options.fill,
            "rounds": result.rounds,
            "missing_fraction": float(1 - observed.mean()),
            "warnings": [
                *mask_files.describe(observed, "the picture")[1],
                *result.untrained,
                *result.notes,
                *([wanted.describe_one_round()] if are_equal else ()),
                *original.list_losses("The picture", model.image_shape[-1]),
            ],
            "samples": [files[f"sample_{number}"] for number in range(1, options.num_samples + 1)],
            "completed": files["completed"],
            "alternatives": [x for name, x in files.items() if name.startswith("completed_")],
            "mean": files["mean"],
            "uncertainty": files["uncertainty"],
            "white_uncertainty": preview.WHITE_UNCERTAINTY,
        }

    def _forget_programs(self, program):
        """JAX keeps every compiled program; a client that sends many sizes must not fill the memory."""
        if program not in self._programs and len(self._programs) >= self.settings.max_programs:
            jax.clear_caches()
            self._programs.clear()
        self._programs.add(program)


def _read_text(fields, name, default=""):
    return fields[name].decode("utf-8", "replace") if name in fields else default


def _to_base64(values: np.ndarray, metadata: dict[str, Any] | None) -> str:
    file = io.BytesIO()
    picture_file.write(file, values, metadata=metadata, compress_level=3)
    return base64.b64encode(file.getbuffer()).decode()
