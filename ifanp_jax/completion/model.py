"""A user's images and masks -> completed images on disk; also the Python call behind it.

Everywhere True (in a mask picture: white; in an alpha channel: opaque) means observed. Observed pixels are
kept exactly, and what lies under unobserved ones is never read.
"""

import collections.abc
import dataclasses
import functools
import logging
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import files
from ifanp_jax.data import masks, pictures
from ifanp_jax.data.sources import folder
from ifanp_jax.errors import UserError

logger = logging.getLogger(__name__)

SIZES = ("own", "trained")
MAX_OWN_PIXELS = 256 * 256  # attention grows with the square: see `CompletionModel.complete`
POSITIONS_AT_ONCE = 2**20  # samples * images * pixels in one call; a map of 64 channels then takes 256 MiB
MIN_OBSERVED_SHARE = 0.1  # of a pixel of the trained grid, to count as observed
WHITE_UNCERTAINTY = 0.5  # standard deviation drawn white: the largest that values in [0, 1] can have
OPAQUE = 128  # least alpha of an observed pixel, of 255

Failure = tuple[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class CompletionResult:
    """Completions of an image (H, W, C), or of a batch, which then leads as (B, H, W, C).

    All are float32 NumPy arrays.

    Attributes:
      samples: (S, H, W, C) or (S, B, H, W, C) in [0, 1], one per draw of the latent variable, clipped;
        observed pixels kept.
      mean: (H, W, C) or (B, H, W, C) in [0, 1], the mean of `samples`.
      uncertainty: like `mean`, the standard deviation of the prediction per value,
        sqrt(variance over draws of the predicted mean + mean over draws of scale^2); 0 at observed pixels.
      raw_samples: like `samples`, but with observed pixels as the model predicts them.
    """

    samples: np.ndarray
    mean: np.ndarray
    uncertainty: np.ndarray
    raw_samples: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class CompletionModel:
    """A trained model, ready to complete images; `ifanp_jax.load` makes one.

    Attributes:
      module: Flax module with the verbs `__call__` and `complete`.
      params: its parameters.
      config: of the run.
      step: training steps behind `params`.
      image_shape: (H, W, C) of the training images.
    """

    module: nn.Module
    params: Any = dataclasses.field(repr=False)
    config: ConfigDict = dataclasses.field(repr=False)
    step: int
    image_shape: tuple[int, int, int]

    def complete(
        self, image, mask, *, num_samples: int = 8, seed: int = 0, size: str = "own"
    ) -> CompletionResult:
        """Completes one image or a batch; the same seed gives the same answer, alone or in any batch.

        At its own size the model sees every pixel, but its convolutions reach only as many pixels as in
        training, and the time of the attention grows with the square of the pixels: MAX_OWN_PIXELS takes
        8 s and 1 GiB on two CPU cores. Large holes come out worse the more the size exceeds the trained one.

        At the trained size, image and mask are brought to the grid of the training by area (a pixel of it is
        observed where a tenth of it is, and takes the mean of that), and the answer is interpolated back
        under the observed pixels: fast at any size, good for large holes in large pictures, too coarse for
        scattered pixels.

        Args:
          image: uint8, or float in [0, 1] where observed; (H, W) for a model of one channel, (H, W, C) or
            (B, H, W, C).
          mask: bool, True = observed; (H, W) or (H, W, 1), for a batch then the same for all, or
            (B, H, W, 1).
          num_samples: S, at least 1.
          seed: of the draws, in [0, 2^32).
          size: "own" or "trained".

        Returns:
          The completions, with B where the input has it and always with C.

        Raises:
          UserError: an argument has another form, or the image is too large for its own size.
        """
        _check_options(num_samples, seed, size)
        image, mask, is_batched = _to_batch(image, mask, self.image_shape[-1])
        if size == "trained":
            samples, raw_samples, uncertainty = self._predict_at_trained_size(image, mask, num_samples, seed)
        else:
            height, width = image.shape[1:3]
            if height * width > MAX_OWN_PIXELS:
                raise UserError(
                    f"The image has {height}x{width} pixels (rows x columns) but at its own size at most "
                    f'{MAX_OWN_PIXELS:,} are allowed: give size="trained" (--size=trained) or shrink it.'
                )
            _advise_on_size((height, width), self.image_shape[:2])
            predicted, scale = self._predict(image, mask, num_samples, seed)
            samples = raw_samples = np.clip(predicted, 0, 1)
            uncertainty = total_deviation(predicted, scale)
        result = CompletionResult(
            samples=np.where(mask, image, samples),
            mean=np.where(mask, image, samples.mean(axis=0)),
            uncertainty=np.where(mask, np.float32(0), uncertainty),
            raw_samples=raw_samples,
        )
        return result if is_batched else _without_batch(result)

    def _predict(
        self, image: np.ndarray, mask: np.ndarray, num_samples: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predicted means and scales, float32 (S, B, H, W, C) each, in calls of bounded size."""
        b, h, w, _ = image.shape
        samples_at_once = min(num_samples, max(1, POSITIONS_AT_ONCE // (h * w)))
        images_at_once = max(1, POSITIONS_AT_ONCE // (h * w * samples_at_once))
        rows = []
        for first_sample in range(0, num_samples, samples_at_once):
            # The key depends on the sample alone: an image's answer must not depend on its neighbours.
            key = jax.random.fold_in(jax.random.key(seed), first_sample)
            count = min(samples_at_once, num_samples - first_sample)
            parts = [slice(first, first + images_at_once) for first in range(0, b, images_at_once)]
            rows.append(
                [
                    jax.device_get(
                        sample_completions(
                            key, self.module, self.params, image[part], mask[part], num_samples=count
                        )
                    )
                    for part in parts
                ]
            )
        return tuple(
            np.concatenate([np.concatenate([cell[which] for cell in row], axis=1) for row in rows])
            for which in range(2)
        )

    def _predict_at_trained_size(
        self, image: np.ndarray, mask: np.ndarray, num_samples: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Samples with observed coarse pixels kept, raw samples, uncertainty; resized back from the grid."""
        height, width = image.shape[1:3]
        small_image, small_mask = _to_grid(image, mask, *self.image_shape[:2])
        if (mask.any(axis=(1, 2, 3)) & ~small_mask.any(axis=(1, 2, 3))).any():
            logger.warning(
                "No pixel of the trained %dx%d grid is observed to a tenth, so nothing of the image is "
                'used; size="own" (--size=own) uses scattered pixels.',
                *self.image_shape[:2],
            )
        predicted, scale = self._predict(small_image, small_mask, num_samples, seed)
        raw_samples = np.clip(predicted, 0, 1)
        # From observed coarse pixels the interpolation goes on into the hole without a seam.
        samples = np.where(small_mask, small_image, raw_samples)
        answers = (samples, raw_samples, total_deviation(predicted, scale))
        return tuple(pictures.resize_area(values, height, width) for values in answers)


@functools.partial(jax.jit, static_argnames=("module", "num_samples"))
def sample_completions(key, module, params, image, mask, *, num_samples):
    """Runs the model's `complete`, compiled once per module, shape and number of samples.

    Args:
      key: PRNG key of the draws.
      module: Flax module.
      params: its parameters.
      image: float32 (B, H, W, C).
      mask: bool (B, H, W, 1), True = observed.
      num_samples: S.

    Returns:
      Predicted mean and scale, float32 (S, B, H, W, C) each.
    """
    completion = module.apply(
        {"params": params}, image, mask, num_samples=num_samples, method="complete", rngs={"sample": key}
    )
    return completion.samples.astype(jnp.float32), completion.scale.astype(jnp.float32)


@functools.cache  # once per size
def _advise_on_size(size: tuple[int, int], trained_size: tuple[int, int]) -> None:
    if max(size) > 2 * max(trained_size):
        logger.warning(
            "The model was trained at %dx%d and is now run at %dx%d: scattered pixels come out well, large "
            'holes better with size="trained" (--size=trained).',
            *trained_size,
            *size,
        )


def total_deviation(samples: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standard deviation of the predictive mixture: sqrt(variance of the means + mean of scale^2).

    Args:
      samples: float32 (S, B, H, W, C), predicted means.
      scale: float32 (S, B, H, W, C), the likelihood's standard deviations.

    Returns:
      float32 (B, H, W, C).
    """
    return np.sqrt(samples.var(axis=0) + np.square(scale).mean(axis=0))


def _without_batch(result: CompletionResult) -> CompletionResult:
    return CompletionResult(
        samples=result.samples[:, 0],
        mean=result.mean[0],
        uncertainty=result.uncertainty[0],
        raw_samples=result.raw_samples[:, 0],
    )


def _to_grid(image: np.ndarray, mask: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the observed pixels under each coarse one, and whether they make up enough of it.

    Args:
      image: float32 (B, H, W, C), 0 at unobserved pixels.
      mask: bool (B, H, W, 1).
      height: rows of the result.
      width: columns of the result.

    Returns:
      float32 (B, height, width, C) in [0, 1] and bool (B, height, width, 1).
    """
    share = pictures.resize_area(mask.astype(np.float32), height, width)
    total = pictures.resize_area(image, height, width)
    small_mask = share > MIN_OBSERVED_SHARE - 1e-6  # float32 sums of exactly that share may fall short of it
    small_image = np.clip(total / np.where(small_mask, share, 1), 0, 1)
    return np.where(small_mask, small_image, np.float32(0)), small_mask


def _check_options(num_samples: int, seed: int, size: str) -> None:
    if not _is_integer(num_samples) or num_samples < 1:
        raise UserError(f"num_samples is {num_samples!r} but must be a whole number of at least 1.")
    if not _is_integer(seed) or not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed!r} but must be a whole number from 0 to {2**32 - 1}.")
    if size not in SIZES:
        raise UserError(f'size is {size!r} but must be "own" or "trained".')


def _is_integer(value) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _to_batch(image, mask, channels: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Checks what the user gave.

    Returns:
      float32 (B, H, W, C) in [0, 1], 0 at unobserved pixels; bool (B, H, W, 1); whether the image has B.
    """
    image, mask = np.asarray(image), np.asarray(mask)
    forms = f"(H, W, {channels}) or (B, H, W, {channels})" + (" or (H, W)" if channels == 1 else "")
    given = image.shape
    if image.ndim == 2 and channels == 1:
        image = image[..., None]
    is_batched = image.ndim == 4
    if image.ndim not in (3, 4) or image.shape[-1] != channels or image.size == 0:
        raise UserError(f"The image has shape {given} but this model takes {forms} with at least one pixel.")
    is_uint8 = image.dtype == np.uint8
    if not is_uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
        raise UserError(f"The image holds {image.dtype} but must be uint8, or float in [0, 1]: convert it.")
    if mask.dtype != np.bool_:
        raise UserError(
            f"The mask holds {mask.dtype} but must be bool, True = observed: write mask > 0 for example."
        )
    image = image if is_batched else image[None]
    b, h, w, _ = image.shape
    allowed = ((h, w), (h, w, 1), *(((b, h, w, 1),) if is_batched else ()))
    if mask.shape not in allowed:
        raise UserError(
            f"The mask has shape {mask.shape} but for this image it must be "
            f"{' or '.join(str(shape) for shape in allowed)}."
        )
    mask = np.broadcast_to(mask[..., None] if mask.ndim == 2 else mask, (b, h, w, 1))
    image = np.where(mask, image, np.zeros((), image.dtype)).astype(np.float32)
    if is_uint8:
        image = image / np.float32(255)
    if not (image.min() >= 0 and image.max() <= 1):  # also where a value is NaN
        raise UserError(
            f"The observed values of the image lie between {image.min():g} and {image.max():g} but must lie "
            "between 0 and 1: scale it, or give uint8."
        )
    return image, mask, is_batched


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

    Returns:
      (path, reason) of each picture that failed.

    Raises:
      UserError: an option, the input, the mask or the output cannot be used for any picture.
    """
    _check_options(num_samples, seed, size)
    root, names = _find_pictures(input, mask, output)
    find_mask = _make_mask_finder(mask)
    output = _make_folder(output)
    stems = _make_stems(names)
    failures = []
    for name in _with_progress(names):
        try:
            picture = pictures.read_picture(root / name)
            observed = find_mask(name, picture)
            _check_mask_size(observed, picture)
            _complete_picture(
                model,
                pictures.to_channels(picture, model.image_shape[-1]),
                observed ^ invert_mask,
                output / stems[name],
                num_samples=num_samples,
                seed=seed,
                size=size,
            )
        except (UserError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
            failures.append((str(root / name), _explain(error)))
    logger.info("Completed %d of %d pictures in %s.", len(names) - len(failures), len(names), output)
    for path, reason in failures:
        logger.error("Failed: %s", reason if path in reason else f"{path}: {reason}")
    return failures


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


def _check_mask_size(mask: np.ndarray, picture: np.ndarray) -> None:
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


def _complete_picture(
    model: CompletionModel, picture: np.ndarray, mask: np.ndarray, stem: pathlib.Path, **options
) -> None:
    """Writes `stem` + `_sample_1.png` and so on, for a uint8 picture (H, W, C) and a mask bool (H, W)."""
    result = model.complete(picture, mask, **options)
    answers = {f"sample_{number}": sample for number, sample in enumerate(result.samples, start=1)}
    answers["mean"] = result.mean
    stem.parent.mkdir(parents=True, exist_ok=True)
    for name, values in answers.items():
        _write_png(stem, name, np.where(mask[..., None], picture, _to_uint8(values)))
    deviation = np.sqrt(np.square(result.uncertainty).mean(axis=-1, keepdims=True))
    _write_png(stem, "uncertainty", _to_uint8(np.minimum(deviation / WHITE_UNCERTAINTY, 1)))


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
        return f"The computation failed: {str(error).splitlines()[0]}"
    return "The memory does not suffice: give --size=trained, fewer --num_samples or a smaller picture."
