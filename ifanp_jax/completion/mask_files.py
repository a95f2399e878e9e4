"""Masks from files: found for each picture, read, and looked at for the usual mistakes."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ifanp_jax.data import image_ops, masks
from ifanp_jax.errors import UserError
from ifanp_jax.inference.sizes import format_share

BESIDE = "_mask.png"  # NAME_mask.png is the mask of NAME.png beside it
BLACK, WHITE = 32, 223  # a mask picture's values between them are grey
MAX_GREY = 0.01  # share of grey pixels in a mask that was meant to be black and white, of edges for example
MAX_MISSING = 0.9  # share above which a mask may be inverted


class Mask(NamedTuple):
    """A mask as it was found, and sentences of warning about it."""

    observed: np.ndarray  # bool (H, W), where the mask is white or the picture opaque
    origin: str  # "alpha", the file, or "none" where all is observed for want of one
    warnings: tuple[str, ...] = ()


def make_finder(
    mask: str | pathlib.Path,
    root: pathlib.Path,
    *,
    is_optional: bool = False,
    threshold: float | None = None,
) -> Callable[[str, np.ndarray], Mask]:
    """Returns `find(name, picture) -> Mask` for a picture of uint8 (H, W, C), or raises a UserError.

    Args:
      mask: a file for all pictures; a folder with one for each; or "" for a picture's alpha channel, or else
        the file NAME_mask.png beside it.
      is_optional: whether a picture without one is observed as a whole.
      threshold: in (0, 1), how bright an observed pixel of a mask picture is at least; None = as `read`.
    """
    if threshold is not None and not 0 < threshold < 1:
        raise UserError(f"mask_threshold is {threshold!r} but must lie between 0 and 1, such as 0.4.")
    if not str(mask):
        return lambda name, picture: _find_own(root, name, picture, is_optional, threshold)
    path = pathlib.Path(mask).expanduser()
    if path.is_file():
        read(path, None)  # a file that cannot be read fails once, not for every picture
        return lambda name, picture: read(path, picture, threshold=threshold)
    if not path.is_dir():
        raise UserError(
            f"There is no mask {mask}: name a file, a folder, or leave it out to use transparency."
        )
    found: dict[str, list[str]] = {}
    arrays = (file.relative_to(path).as_posix() for file in sorted(path.rglob("*.npy")))
    for name in (*image_ops.list_pictures(path), *arrays):
        found.setdefault(without_suffix(name), []).append(name)
    if not found:
        raise UserError(f"There is no mask below {mask}: put a picture or .npy file there for each input.")

    def find(name: str, picture: np.ndarray) -> Mask:
        stem = without_suffix(name)
        candidates = found.get(stem, [])
        if len(candidates) != 1:
            what = f"{len(candidates)} masks ({', '.join(candidates)})" if candidates else "no mask"
            raise UserError(f"There is {what} for it below {path}: give exactly one, such as {stem}.png.")
        return read(path / candidates[0], picture, threshold=threshold)

    return find


def list_beside(names: list[str]) -> set[str]:
    """Those of the names of pictures that are masks of others beside them."""
    stems = {without_suffix(name) for name in names}
    return {name for name in names if name.endswith(BESIDE) and name.removesuffix(BESIDE) in stems}


def read(path: pathlib.Path, picture: np.ndarray | None, *, threshold: float | None = None) -> Mask:
    """Reads a picture without transparency, or .npy file, for a picture of uint8 (H, W, C), if known.

    With a `threshold`, of 1 for white, a picture may be grey, such as an infrared scan.
    """
    if path.suffix.lower() == ".npy":
        return Mask(masks.load(str(path)), str(path))
    values = image_ops.read_picture(path)
    check_opaque(values, f"The mask {path}")
    warnings, grey = [], image_ops.to_channels(values, 1)[..., 0]
    if threshold is not None:
        return Mask(grey >= threshold * 255, str(path))
    if picture is not None and grey.shape == picture.shape[:2] and _is_same(grey, picture):
        warnings.append(f"The mask {path} is the picture itself: give a black and white one.")
    elif (share := np.mean((grey > BLACK) & (grey < WHITE))) > MAX_GREY:
        warnings.append(
            f"{format_share(share)} of the mask {path} is grey: values of at least 128 count as white. "
            "Give one in black and white, or with --mask_threshold."
        )
    return Mask(masks.from_picture(values), str(path), tuple(warnings))


def check_opaque(values: np.ndarray, what: str) -> None:
    """Raises a UserError for a mask with transparent pixels, whose colours mean nothing."""
    if values.shape[-1] in (2, 4) and (values[..., -1] < 255).any():
        raise UserError(f"{what} has transparent pixels: save it in black and white, without alpha.")


def describe(observed: np.ndarray, name: str, *, remedy: str = "") -> tuple[str, list[str]]:
    """A sentence on what is to be completed, and warnings; `remedy` says what inverts the mask."""
    missing = 1 - float(observed.mean())
    line = f"{format_share(missing)} of {name} is to be completed"
    question = f"is the mask inverted? {remedy}".strip()
    warnings = []
    if missing == 0:
        warnings = [f"Nothing of {name} is to be completed: the answers are the picture itself."]
    elif missing == 1:
        warnings = [f"All of {name} is to be completed, from nothing: {question}"]
    elif missing > MAX_MISSING:
        warnings = [f"{line}: {question}"]
    return f"{line}.", warnings


def check_size(mask: np.ndarray, picture: np.ndarray) -> None:
    """Raises a UserError where a mask (H, W) has another size than a picture (H, W, C)."""
    if mask.shape != picture.shape[:2]:
        is_turned = mask.shape == picture.shape[1::-1]
        wanted = "the picture as it is shown, turned as its EXIF says" if is_turned else "the picture's size"
        raise UserError(
            f"The mask has {mask.shape[0]}x{mask.shape[1]} pixels (rows x columns) but the picture has "
            f"{picture.shape[0]}x{picture.shape[1]}: give a mask of {wanted}."
        )


def without_suffix(name: str) -> str:
    """A relative path without its last ending, with slashes."""
    return pathlib.PurePosixPath(name).with_suffix("").as_posix()


def _find_own(root, name, picture, is_optional, threshold):
    """The alpha channel where it hides anything, else a file beside the picture, else an opaque alpha."""
    beside = root / f"{without_suffix(name)}{BESIDE}"
    has_alpha = picture.shape[-1] in (2, 4)
    observed = picture[..., -1] >= image_ops.OPAQUE if has_alpha else None
    if beside.is_file() and (not has_alpha or observed.all()):
        return read(beside, picture, threshold=threshold)
    if has_alpha:
        return Mask(observed, "alpha")
    if is_optional:
        return Mask(np.ones(picture.shape[:2], bool), "none")
    raise UserError(
        f"{name} has no alpha channel to serve as mask, and there is no {beside.name} beside it: "
        "give one with --mask=FILE_OR_DIR."
    )


def _is_same(grey, picture):
    """Whether a mask shows a picture: but for the small changes of another file format."""
    own = image_ops.to_channels(picture, 1)[..., 0]
    return own.min() < own.max() and np.abs(grey.astype(np.int16) - own).mean() < 2
