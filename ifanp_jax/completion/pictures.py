"""A user's pictures and masks in, completed pictures on disk out."""

import collections.abc
import logging
import pathlib

import jax
import numpy as np

from ifanp_jax import errors, files
from ifanp_jax.completion.model import CompletionModel, CompletionResult
from ifanp_jax.data import masks
from ifanp_jax.data import pictures as picture_files
from ifanp_jax.data.sources import folder
from ifanp_jax.errors import UserError

logger = logging.getLogger(__name__)

WHITE_UNCERTAINTY = 0.5  # standard deviation drawn white: the largest that values in [0, 1] can have
OPAQUE = 128  # least alpha of an observed pixel, of 255

Failure = tuple[str, str]


def complete_files(
    model: CompletionModel,
    *,
    input: str | pathlib.Path,
    mask: str | pathlib.Path,
    output: str | pathlib.Path,
    num_samples: int,
    seed: int = 0,
    size: str = "own",
    invert_mask: bool = False,
    rounds: int | None = None,
    temperature: float = 1.0,
) -> list[Failure]:
    """Completes a picture, or every picture below a folder, and writes the answers as PNG.

    For `NAME.jpg` these are `NAME_sample_1.png`, ..., `NAME_mean.png`, with the observed pixels of the
    picture (in the model's channels) bit for bit, and `NAME_uncertainty.png`, grey: black = observed or
    certain, white = a standard deviation of WHITE_UNCERTAINTY or more, root mean square over the channels.
    Sub-folders are kept; where two pictures of one folder have the same NAME, that folder's names keep their
    suffix (`NAME.jpg_mean.png`). A picture that fails is logged at the end, after the others are done.

    Args:
      model: a trained model; the pictures are turned into its channels.
      input: picture file, or folder; what lies in `output` or `mask` below it is left out.
      mask: file for `masks.load` (white = observed) for all pictures; or a folder with one for each, at the
        same relative place and name but for the suffix; or "" for the alpha channel (at least OPAQUE =
        observed).
      output: folder, made where it is missing.
      num_samples: files per picture, at least 1.
      seed: of the draws, the same for every picture.
      size: "own" or "trained", see `CompletionModel.complete`.
      invert_mask: True = white or opaque pixels are the ones to complete.
      rounds: of the samples, see `CompletionModel.complete`.
      temperature: of the samples, see `CompletionModel.complete`.

    Returns:
      (path, reason) of each picture that failed.

    Raises:
      UserError: an option, the input, the mask or the output cannot be used for any picture.
    """
    options = {"num_samples": num_samples, "seed": seed, "size": size, "rounds": rounds}
    options["temperature"] = temperature
    model.make_options(**options, uncertainty="heads")
    root, names = _find_pictures(input, mask, output)
    find_mask = _make_mask_finder(mask)
    output = _make_folder(output)
    stems = _make_stems(names)
    failures = []
    for name in _with_progress(names):
        try:
            picture = picture_files.read_picture(root / name)
            observed = find_mask(name, picture) ^ invert_mask
            _complete_picture(model, picture, observed, output / stems[name], options)
        except (UserError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
            failures.append((str(root / name), _explain(error)))
    logger.info("Completed %d of %d pictures in %s.", len(names) - len(failures), len(names), output)
    for path, reason in failures:
        logger.error("Failed: %s", reason if path in reason else f"{path}: {reason}")
    return failures


def _complete_picture(model, picture, observed, stem, options):
    """Completes a uint8 picture (H, W, any channels) where `observed`, bool (H, W), is False."""
    check_mask_size(observed, picture)
    picture = picture_files.to_channels(picture, model.image_shape[-1])
    _write(model.complete(picture, observed, **options), picture, observed, stem)


def _find_pictures(
    source: str | pathlib.Path, mask: str | pathlib.Path, output: str | pathlib.Path
) -> tuple[pathlib.Path, list[str]]:
    """The folder and the names of the pictures in it, without masks and answers of an earlier run."""
    root = pathlib.Path(source).expanduser()
    if root.is_file():
        return root.parent, [root.name]
    if not root.is_dir():
        raise UserError(f"There is no input {source}: name a picture or a folder of pictures.")
    resolved = root.resolve()
    others = {"output": output, **({"mask": mask} if str(mask) else {})}
    others = {option: pathlib.Path(path).expanduser().resolve() for option, path in others.items()}
    for option, path in others.items():
        if path == resolved:
            raise UserError(f"The {option} {path} is the input folder itself: name another folder.")
    left_out = [path for path in others.values() if path.is_relative_to(resolved)]
    names = [
        name
        for name in folder.list_pictures(root)
        if not any((resolved / name).is_relative_to(path) for path in left_out)
    ]
    if not names:
        raise UserError(
            f"There is no picture to complete below {source} (allowed are {', '.join(folder.SUFFIXES)}): "
            "name another folder."
        )
    return root, names


def _make_mask_finder(
    mask: str | pathlib.Path,
) -> collections.abc.Callable[[str, np.ndarray], np.ndarray]:
    """Returns `find(name, picture) -> bool (H, W)`, True where the mask is white or the picture opaque."""
    if not str(mask):
        return _read_alpha
    path = pathlib.Path(mask).expanduser()
    if path.is_file():
        fixed = masks.load(str(path))
        return lambda name, picture: fixed
    if not path.is_dir():
        raise UserError(
            f"There is no mask {mask}: name a file, a folder, or leave it out to use transparency."
        )
    found: dict[str, list[str]] = {}
    arrays = (file.relative_to(path).as_posix() for file in sorted(path.rglob("*.npy")))
    for name in (*folder.list_pictures(path), *arrays):
        found.setdefault(_without_suffix(name), []).append(name)
    if not found:
        raise UserError(f"There is no mask below {mask}: put a picture or .npy file there for each input.")

    def find(name: str, picture: np.ndarray) -> np.ndarray:
        del picture
        stem = _without_suffix(name)
        candidates = found.get(stem, [])
        if len(candidates) != 1:
            what = f"{len(candidates)} masks ({', '.join(candidates)})" if candidates else "no mask"
            raise UserError(f"There is {what} for it below {path}: give exactly one, such as {stem}.png.")
        return masks.load(str(path / candidates[0]))

    return find


def _read_alpha(name: str, picture: np.ndarray) -> np.ndarray:
    if picture.shape[-1] not in (2, 4):
        raise UserError(f"{name} has no alpha channel to serve as mask: give one with --mask=FILE_OR_DIR.")
    return picture[..., -1] >= OPAQUE


def check_mask_size(mask: np.ndarray, picture: np.ndarray) -> None:
    """Raises a UserError where a mask (H, W) has another size than a picture (H, W, C).

    Args:
      mask: bool.
      picture: any dtype.
    """
    if mask.shape != picture.shape[:2]:
        raise UserError(
            f"The mask has {mask.shape[0]}x{mask.shape[1]} pixels (rows x columns) but the picture has "
            f"{picture.shape[0]}x{picture.shape[1]}: give a mask of the picture's size."
        )


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
    by_folder: dict[pathlib.PurePosixPath, list[str]] = {}
    for name in names:
        by_folder.setdefault(pathlib.PurePosixPath(name).parent, []).append(name)
    stems = {}
    for group in by_folder.values():
        is_unique = len({_without_suffix(name).casefold() for name in group}) == len(group)
        stems.update({name: _without_suffix(name) if is_unique else name for name in group})
    return stems


def _without_suffix(name: str) -> str:
    return pathlib.PurePosixPath(name).with_suffix("").as_posix()


def _with_progress(names: list[str]) -> collections.abc.Iterable[str]:
    from tqdm import tqdm

    return tqdm(names, unit="picture", disable=None)  # None: only on a terminal


def to_pictures(result: CompletionResult, picture: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """The answers as they are written: `sample_1`, ..., `mean` and `uncertainty`, see `complete_files`.

    Args:
      result: of this picture.
      picture: uint8 (H, W, C) in the channels of the model; observed pixels are taken from it.
      mask: bool (H, W), True = observed.

    Returns:
      uint8 (H, W, C) by name; (H, W, 1) for `uncertainty`.
    """
    answers = {f"sample_{number}": sample for number, sample in enumerate(result.samples, start=1)}
    answers["mean"] = result.mean
    drawn = {name: np.where(mask[..., None], picture, _to_uint8(x)) for name, x in answers.items()}
    deviation = np.sqrt(np.square(result.uncertainty).mean(axis=-1, keepdims=True))
    drawn["uncertainty"] = _to_uint8(np.minimum(deviation / WHITE_UNCERTAINTY, 1))
    return drawn


def _write(result: CompletionResult, picture: np.ndarray, mask: np.ndarray, stem: pathlib.Path) -> None:
    """Writes `stem` + `_sample_1.png` and so on, for a uint8 picture (H, W, C) and a mask bool (H, W)."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for name, values in to_pictures(result, picture, mask).items():
        _write_png(stem, name, values)


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.floor(values * 255 + 0.5).astype(np.uint8)


def _write_png(stem: pathlib.Path, name: str, values: np.ndarray) -> None:
    """Writes uint8 (H, W, 1 or 3)."""
    from PIL import Image

    values = values[..., 0] if values.shape[-1] == 1 else values
    with files.replacing(stem.with_name(f"{stem.name}_{name}.png")) as path:
        Image.fromarray(values).save(path)


def _explain(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return f"The answer cannot be written ({error.strerror or error}): make room or name another output."
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
        return f"The computation failed: {errors.first_line(error)}."
    return "The memory does not suffice: give --size=trained, fewer --num_samples or a smaller picture."
