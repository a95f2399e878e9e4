"""Images in NumPy files: <split>.npy, or .npz archives with an array per split."""

import contextlib
import pathlib

import numpy as np

from ifanp_jax import files
from ifanp_jax.data import image_ops
from ifanp_jax.data.dataset import Dataset, name_data
from ifanp_jax.errors import UserError


def load(config_data) -> Dataset:
    """Reads the training and the held-out array.

    `dir` is an .npz file whose keys are the splits, or a folder. In a folder a split is, in this order,
    `<split>.npy`, `<split>.npz` (its key of that name, or its only array), or that key in any other .npz.
    An .npy file without a recipe stays memory-mapped.

    Args:
      config_data: `config.data`; uses `name`, `dir`, the splits, the recipe and `max_*_images`.

    Returns:
      uint8 (N, H, W, C) and (M, H, W, C) in [0, 255]; not cropped unless a size or a crop is asked
      for, nor where the images have `image_size` already.

    Raises:
      UserError: a file or split is missing, damaged, pickled, or of the wrong dtype, rank or channels.
    """
    recipe = image_ops.make_recipe(config_data)
    if not config_data.dir:
        raise UserError(
            "data.dir is empty but must name an .npz file or a folder of .npy or .npz files: set it."
        )
    root = pathlib.Path(config_data.dir).expanduser()
    if not root.exists():
        raise UserError(f"data.dir is {root}, which does not exist: name an .npz file or a folder of arrays.")
    parts = (
        (config_data.train_split, config_data.max_train_images),
        (config_data.eval_split, config_data.max_eval_images),
    )
    train, evaluation = (_read_part(root, split, limit, recipe) for split, limit in parts)
    return Dataset(name=name_data(config_data, root), train=train, evaluation=evaluation)


def _read_part(root: pathlib.Path, split: str, limit: int, recipe: image_ops.Recipe) -> np.ndarray:
    images, source = find_array(root, split)
    images = _to_images(images, source)
    images = images[:limit] if limit > 0 else images
    if images.shape[1:3] == (recipe.image_size, recipe.image_size):
        # Already prepared: a crop in the source's own pixels does not apply a second time.
        recipe = image_ops.Recipe(channels=recipe.channels)
    return image_ops.apply_recipe_in_chunks(images, recipe)


def find_array(root: pathlib.Path, split: str) -> tuple[np.ndarray, str]:
    """Finds the array of a split.

    Args:
      root: an .npz file or a folder.
      split: file stem or key.

    Returns:
      The array as stored, and what messages call it.

    Raises:
      UserError: there is none, or its file cannot be read without pickle.
    """
    if root.is_file():
        if root.suffix.lower() != ".npz":
            raise UserError(
                f"data.dir is the file {root} but must be a folder or an .npz file: name one of these."
            )
        array = _from_archive(root, split, only_is_enough=False)
    else:
        array = _load(root / f"{split}.npy") if (root / f"{split}.npy").is_file() else None
        if array is not None:
            return array, str(root / f"{split}.npy")
        archives = sorted(root.glob("*.npz"), key=lambda path: (path.stem != split, path.name))
        for path in archives:
            array = _from_archive(path, split, only_is_enough=path.stem == split)
            if array is not None:
                return array, f"{split!r} in {path}"
    if array is None:
        found = ", ".join(_names(root)) or "no array"
        raise UserError(
            f"There is no array {split!r} in {root}, which holds {found}: set data.train_split and "
            "data.eval_split to names that exist."
        )
    return array, f"{split!r} in {root}"


def _names(root: pathlib.Path) -> list[str]:
    if root.is_file():
        return _keys(root)
    names = [path.name for path in sorted(root.glob("*.npy"))]
    return names + [f"{path.name} ({', '.join(_keys(path))})" for path in sorted(root.glob("*.npz"))]


def _keys(path: pathlib.Path) -> list[str]:
    with _open_archive(path) as archive:
        return list(archive.files)


def _load(path: pathlib.Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except files.DAMAGED as error:
        raise _unreadable(path) from error


def _from_archive(path: pathlib.Path, split: str, *, only_is_enough: bool) -> np.ndarray | None:
    with _open_archive(path) as archive:
        if split in archive.files:
            return archive[split]
        return archive[archive.files[0]] if only_is_enough and len(archive.files) == 1 else None


@contextlib.contextmanager
def _open_archive(path: pathlib.Path):
    try:
        with path.open("rb") as file:  # numpy leaves the file open when the archive is damaged
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise _unreadable(path)
            with archive:
                yield archive
    except UserError:
        raise
    except MemoryError as error:  # or its header is damaged and promises too much
        raise UserError(f"{path} does not fit into the memory ({error}): save it as .npy.") from error
    except files.DAMAGED as error:
        raise _unreadable(path) from error


def _unreadable(path: pathlib.Path) -> UserError:
    return UserError(
        f"{path} is damaged or holds pickled objects, which are not loaded for safety: save a plain uint8 "
        "array with numpy.save or numpy.savez."
    )


def _to_images(array: np.ndarray, source: str) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        raise UserError(
            f"The array {source} has dtype {getattr(array, 'dtype', 'unknown')} but must be uint8 in 0..255: "
            "scale and convert it."
        )
    if array.ndim not in (3, 4):
        raise UserError(
            f"The array {source} has shape {array.shape} but must be (N, H, W) or (N, H, W, C): reshape it."
        )
    array = array[..., None] if array.ndim == 3 else array
    if array.shape[-1] not in (1, 3):
        raise UserError(
            f"The array {source} has shape {array.shape} but its last axis must be 1 (grey) or 3 (RGB) "
            "channels: transpose it to (N, H, W, C) or drop channels."
        )
    if 0 in array.shape:
        raise UserError(
            f"The array {source} has shape {array.shape} but must hold at least one image: fill it."
        )
    return array
