"""A user's pictures and masks in, completed pictures on disk out."""

import collections.abc
import dataclasses
import logging
import pathlib

import jax
import tqdm

from ifanp_jax import errors
from ifanp_jax.completion import canvas, done, mask_files, picture_file, preview
from ifanp_jax.completion.methods import ClassicalMethod
from ifanp_jax.data import image_ops
from ifanp_jax.errors import UserError
from ifanp_jax.files import replacing
from ifanp_jax.inference.model import Model
from ifanp_jax.inference.options import CompletionOptions

logger = logging.getLogger(__name__)

Completer = Model | ClassicalMethod


def complete_files(
    model: Completer,
    *,
    input: str | pathlib.Path,
    mask: str | pathlib.Path,
    output: str | pathlib.Path,
    options: CompletionOptions,
    invert_mask: bool = False,
    mask_threshold: float | None = None,
    extend: str = "",
    compared: collections.abc.Mapping[str, Completer] | None = None,
) -> list[tuple[str, str]]:
    """Completes a picture, or every picture below a folder, and writes the answers as PNG.

    For `NAME.jpg` these are `NAME_completed.png`, the picture that a person wants (and `NAME_completed_2.png`
    where more are asked for), `NAME_mean.png`, the best estimate, and `NAME_sample_1.png`, ..., with the
    observed pixels of the picture bit for bit, in its own form: grey, 16 bits, transparency, EXIF and colour
    profile are kept.
    `NAME_uncertainty.png` is grey: black = observed or certain, white = a standard deviation of
    `preview.WHITE_UNCERTAINTY` or more, root mean square over the channels. `NAME_preview.png` shows all.
    Sub-folders are kept; where two pictures of one have the same NAME, its names keep their suffix. A picture
    that fails is logged at the end, after the others are done. Where `input` is a folder, pictures that the
    same call completed before are left as they are, see `done`.

    Args:
      input: picture file, or folder; what lies in `output` or `mask` below it is left out.
      mask: file for `masks.load` (white = observed) for all pictures; or a folder with one for each, at the
        same relative place and name but for the suffix; or "" for the alpha channel (at least
        `image_ops.OPAQUE` = observed), or else the file NAME_mask.png beside the picture.
      output: folder, made where it is missing.
      invert_mask: True = white or opaque pixels are the ones to complete.
      mask_threshold: in (0, 1), how bright an observed pixel of a mask picture is at least, such as of an
        infrared scan, where dust is dark; None = 128 of 255, and a warning where the mask is grey.
      extend: "LEFT,TOP,RIGHT,BOTTOM", see `canvas.Border.parse`: what is added to each picture and completed
        too. A picture without a mask is then observed as a whole.
      compared: other models by name, each of which adds `NAME_<name>.png` with its mean.

    Returns:
      (path, reason) of each picture that failed.

    Raises:
      UserError: an option, the input, the mask or the output cannot be used for any picture.
    """
    model.with_rounds(options)  # a wrong one fails once, not for every picture
    root, names = _find_pictures(input, mask, output)
    border = canvas.Border.parse(extend)
    find_mask = mask_files.make_finder(mask, root, is_optional=bool(extend), threshold=mask_threshold)
    output, compared = _make_folder(output), compared or {}
    record = done.read(output, model, options, border, sorted(compared)) if len(names) > 1 else None
    job = _Job(model, compared, options, root, output, find_mask, invert_mask, border, record)
    failures, stems, num_before = [], _make_stems(names), 0
    # A bar on a terminal alone, and for more than one picture.
    for name in tqdm.tqdm(names, unit="picture", disable=None if len(names) > 1 else True):
        try:
            num_before += not job.complete(name, stems[name])
        except (UserError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
            failures.append((str(root / name), _explain(error)))
    _report(failures, len(names), num_before, output)
    return failures


def _report(failures, num_pictures, num_before, output):
    logger.info("Completed %d of %d pictures in %s.", num_pictures - len(failures), num_pictures, output)
    if num_before:
        logger.info(
            "%d of them were there from an earlier run of this command; to complete them again, delete %s.",
            num_before,
            output / done.FILE_NAME,
        )
    for path, reason in failures:
        logger.error("Failed: %s", reason if path in reason else f"{path}: {reason}")


@dataclasses.dataclass(frozen=True)
class _Job:
    """What is the same for all pictures."""

    model: Completer
    compared: collections.abc.Mapping[str, Completer]
    options: CompletionOptions
    root: pathlib.Path
    output: pathlib.Path
    find_mask: collections.abc.Callable
    invert_mask: bool
    border: canvas.Border
    done: done.Done | None

    def complete(self, name: str, stem: str) -> bool:
        """Reads a picture, completes it and writes the answers; False where they were there already."""
        original = picture_file.read(self.root / name)
        mask = self.find_mask(name, original.eight_bits)
        observed = mask.observed ^ (self.invert_mask and mask.origin != "none")
        mask_files.check_size(observed, original.values)
        found = self.done.hash(self.root / name, observed) if self.done else ""
        if self.done and self.done.has(stem, found):
            return False
        original, observed = self.border.add(original, observed)
        remedy = f"Then {'leave out' if self.invert_mask else 'give'} --invert_mask."
        line, warnings = mask_files.describe(observed, name, remedy=remedy)
        if not warnings:  # they say it too
            logger.info(line)
        channels = self.model.image_shape[-1]
        for warning in (*mask.warnings, *warnings, *original.list_losses(name, channels)):
            logger.warning(warning)
        result = self._complete_by(self.model, original, observed)
        for note in result.notes:
            logger.warning(note)
        drawn = preview.to_pictures(result, original, observed)
        for name, other in self.compared.items():
            logger.info("Completing it by %s too.", name)
            drawn[name] = original.fill(self._complete_by(other, original, observed).mean, observed)
        drawn["preview"] = preview.draw(drawn, observed)
        self._write(stem, drawn, original.get_metadata(channels))
        if self.done:
            self.done.add(stem, found)
        return True

    def _complete_by(self, model, original, observed):
        return model.complete(original.to_model(model.image_shape[-1]), observed, options=self.options)

    def _write(self, stem, drawn, metadata):
        path = self.output / stem
        path.parent.mkdir(parents=True, exist_ok=True)
        for name, values in drawn.items():
            with replacing(path.with_name(f"{path.name}_{name}.png")) as unfinished:
                own = None if name in ("uncertainty", "preview") else metadata
                with unfinished.open("wb") as file:
                    picture_file.write(file, values, metadata=own)
        logger.info("Wrote %s to %s.", ", ".join(f"{path.name}_{name}.png" for name in drawn), path.parent)


def _find_pictures(source, mask, output) -> tuple[pathlib.Path, list[str]]:
    """The folder and the names of the pictures in it, without masks and answers of an earlier run."""
    root = pathlib.Path(source).expanduser()
    if root.is_file():
        return root.parent, [root.name]
    if not root.is_dir():
        raise UserError(f"There is no input {source}: name a picture or a folder of pictures.")
    # Leave out what lies in the folders of the output and of the masks.
    resolved, left_out = root.resolve(), []
    for option, path in {"output": output, **({"mask": mask} if str(mask) else {})}.items():
        left_out.append(pathlib.Path(path).expanduser().resolve())
        if left_out[-1] == resolved:
            raise UserError(f"The {option} {resolved} is the input folder itself: name another folder.")
    names = image_ops.list_pictures(root)
    names = [name for name in names if not any((resolved / name).is_relative_to(path) for path in left_out)]
    beside = set() if str(mask) else mask_files.list_beside(names)
    names = [name for name in names if name not in beside]
    if not names:
        raise UserError(
            f"There is no picture to complete below {source} (allowed are {', '.join(image_ops.SUFFIXES)}): "
            "name another folder."
        )
    return root, names


def _make_folder(path: str | pathlib.Path) -> pathlib.Path:
    path = pathlib.Path(path).expanduser()
    if path.exists() and not path.is_dir():
        raise UserError(f"The output {path} is a file but must be a folder: name another one.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The output folder {path} cannot be made ({error}): name another one.") from error
    return path


def _make_stems(names: list[str]) -> dict[str, str]:
    """Names of the answers without ending: unique, also where upper and lower case are one."""
    short = mask_files.without_suffix
    folders = {name: pathlib.PurePosixPath(name).parent for name in names}
    counts = collections.Counter((folders[name], short(name).casefold()) for name in names)
    mixed = {folder for (folder, _), count in counts.items() if count > 1}
    return {name: name if folders[name] in mixed else short(name) for name in names}


def _explain(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return f"The answer cannot be written ({error.strerror or error}): make room or name another output."
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
        return f"The computation failed: {errors.first_line(error)}."
    return "The memory does not suffice: give --size=trained, fewer --num_samples or a smaller picture."
