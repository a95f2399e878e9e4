"""Any TensorFlow Datasets image data set; what is prepared as array_record is read without TensorFlow."""

import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np

from ifanp_jax import errors
from ifanp_jax.data import cache, changes, image_ops
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError

_CHUNK = 1024  # examples per read; one by one is about 1.7 times slower
_CONNECT_SECONDS = 10
_INSTALL = "`pip install 'ifanp_jax[prepare]'`"


def load(config_data) -> Dataset:
    """Reads the training and the held-out split of a TFDS data set with a feature "image".

    Every picture is cropped to its central square unless the recipe has another crop. A data set that is not
    prepared under `dir` is prepared as array_record where TensorFlow is installed.

    Args:
      config_data: `config.data`; uses `name`, `dir` ("" = TFDS's own default), the splits, the recipe,
        `max_*_images` (only so many are read) and `cache_dir`.

    Returns:
      uint8 (N, H, W, C) and (M, H, W, C) in [0, 255].

    Raises:
      UserError: `dir`, data set or split does not exist; TensorFlow is missing and the data set is not
        prepared, or in a format that needs it; there is no "image", or its pictures differ in size and
        `image_size` is 0.
    """
    recipe = image_ops.make_recipe(config_data)
    builder = _find_builder(config_data.name, config_data.dir)
    _check_has_image(builder)
    parts = {
        "train": (config_data.train_split, config_data.max_train_images),
        "evaluation": (config_data.eval_split, config_data.max_eval_images),
    }
    counts = {part: _count(builder, split, limit) for part, (split, limit) in parts.items()}

    def build():
        arrays, changed = {}, []
        for part, (split, _) in parts.items():
            chunks = _read_chunks(builder, split, counts[part])
            arrays[part], of_part = _decode(chunks, counts[part], recipe, config_data.name)
            changed.extend(of_part)
        return arrays | {"changes": changes.pack(changed)}, ()

    directory = pathlib.Path(builder.data_path)
    files = sorted(path.name for path in directory.iterdir() if path.is_file())
    key = {
        "source": "tfds",
        "arrays": ("train", "evaluation", "changes"),
        "dir": str(directory.resolve()),
        "recipe": dataclasses.asdict(recipe),
        "parts": parts,
    }
    arrays, _ = cache.cached(
        config_data.name, key, cache.fingerprint(directory, files), build, cache_dir=config_data.cache_dir
    )
    changes.tell(changes.unpack(arrays["changes"]), config_data.name, recipe.image_size)
    return Dataset(name=config_data.name, train=arrays["train"], evaluation=arrays["evaluation"])


def _find_builder(name: str, data_dir: str):
    """Returns a prepared TFDS builder."""
    if data_dir and not pathlib.Path(data_dir).expanduser().is_dir():
        raise UserError(
            f"data.dir is {data_dir}, which is not a folder: name the TFDS data_dir or create it first."
        )
    import tensorflow_datasets

    root = str(pathlib.Path(data_dir).expanduser()) if data_dir else None
    try:
        builder = tensorflow_datasets.builder(name, data_dir=root)
        if not builder.is_prepared():
            builder = tensorflow_datasets.builder(name, data_dir=root, file_format="array_record")
    except (ValueError, AssertionError) as error:
        is_unknown = isinstance(
            error, tensorflow_datasets.core.DatasetNotFoundError
        )  # it lists every data set
        reason = "" if is_unknown else f" ({errors.first_line(error)[:200]})"
        raise UserError(
            f"TFDS has no data set {name!r}{reason}: set data.name to a name, configuration and version "
            "listed at https://www.tensorflow.org/datasets/catalog."
        ) from error
    if not builder.is_prepared():
        _prepare(builder, name, data_dir)
    return builder


def _prepare(builder, name: str, data_dir: str) -> None:
    place = f"data_dir={data_dir!r}, " if data_dir else ""
    command = (
        f'python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}, {place}'
        "file_format='array_record').download_and_prepare()\""
    )
    where = f"under {data_dir}" if data_dir else "in TFDS's default folder"
    if not _has_tensorflow():
        raise UserError(
            f"The TFDS data set {name!r} is not prepared {where} and preparing it needs TensorFlow: run "
            f"{_INSTALL} and then `{command}`."
        )
    try:
        _check_network(builder)
        with _without_leftovers(pathlib.Path(builder.data_dir_root), pathlib.Path(builder.data_path)):
            builder.download_and_prepare()
    except Exception as error:  # anything from a lost network to a full disk
        raise UserError(
            f"The TFDS data set {name!r} could not be prepared {where} ({errors.first_line(error)}): run "
            f"`{command}` to see why."
        ) from error


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _check_network(builder) -> None:
    """Asks for the first file of a data set: without network TFDS tries for minutes."""
    urls = [url for url in builder.url_infos or () if url.startswith(("https://", "http://"))]
    if not urls:
        return
    request = urllib.request.Request(urls[0], method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_CONNECT_SECONDS).close()
    except urllib.error.HTTPError as error:  # somebody answered: not every server takes this question
        error.close()
    except OSError as error:
        reason = errors.first_line(getattr(error, "reason", None) or error)
        raise OSError(f"{request.host} cannot be reached: {reason}") from error


@contextlib.contextmanager
def _without_leftovers(root: pathlib.Path, data_path: pathlib.Path) -> Iterator[None]:
    """Where what is inside fails, removes the unfinished files that it made; finished downloads stay."""

    def list_unfinished():
        patterns = ("downloads/*.tmp.*", "downloads/*/*.tmp.*", "downloads/extracted/*incomplete*")
        found = {path for pattern in patterns for path in root.glob(pattern)}
        return found | set(data_path.parent.glob("*incomplete*"))

    def list_folders():
        return {path for path in (root / "downloads", *data_path.parents, data_path) if path.is_dir()}

    before, folders = list_unfinished(), list_folders()
    try:
        yield
    except BaseException:
        for path in sorted(list_unfinished() - before, reverse=True):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for path in sorted(list_folders() - folders, reverse=True):
            if not any(path.iterdir()):
                path.rmdir()
        raise


def _check_has_image(builder) -> None:
    from tensorflow_datasets.core import features

    found = builder.info.features
    if "image" not in found or not isinstance(found["image"], features.Image):
        raise UserError(
            f"The TFDS data set {builder.name!r} has no image feature called 'image' but {', '.join(found)}: "
            "choose an image data set."
        )


def _count(builder, split: str, limit: int) -> int:
    """Images of a split, at most `limit` where that is not 0."""
    try:
        count = builder.info.splits[split].num_examples
    except (ValueError, KeyError) as error:
        raise UserError(
            f"The TFDS data set {builder.name!r} has no split {split!r} but {', '.join(builder.info.splits)}"
            ": set data.train_split and data.eval_split to these, or to a slice such as 'train[:90%]'."
        ) from error
    if not count:
        raise UserError(
            f"The split {split!r} of the TFDS data set {builder.name!r} is empty: choose a larger one."
        )
    return min(count, limit) if limit > 0 else count


def _read_chunks(builder, split: str, count: int) -> Iterator[list[bytes]]:
    """The encoded pictures of a split in their order, the first `count`."""
    from tensorflow_datasets import decode

    # Pillow decodes the bytes later: TFDS would warn about OpenCV and needs TensorFlow for some formats.
    decoders = {"image": decode.SkipDecoding()}
    try:
        source = builder.as_data_source(split=split, decoders=decoders)
    except NotImplementedError:  # a format that cannot be read at any place, such as TFDS's default
        yield from _read_chunks_with_tensorflow(builder, split, count, decoders)
        return
    for start in range(0, count, _CHUNK):
        indices = range(start, min(start + _CHUNK, count))
        yield [example["image"] for example in source.__getitems__(list(indices))]


def _read_chunks_with_tensorflow(builder, split, count, decoders):
    if not _has_tensorflow():
        raise UserError(
            f"The TFDS data set {builder.name!r} is prepared under {builder.data_path} as "
            f"{builder.info.file_format.value}, which only TensorFlow reads: run {_INSTALL}, or name in "
            "data.dir a folder in which it was prepared with file_format='array_record'."
        )
    import tensorflow
    import tensorflow_datasets

    tensorflow.config.set_visible_devices([], "GPU")  # it would take the memory that JAX needs
    # One file after the other, in their order.
    options = tensorflow_datasets.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    examples = builder.as_dataset(split=split, decoders=decoders, read_config=options, shuffle_files=False)
    for batch in examples.take(count).batch(_CHUNK).as_numpy_iterator():
        yield list(batch["image"])


def _decode(
    chunks: Iterator[list[bytes]], num_images: int, recipe: image_ops.Recipe, name: str
) -> tuple[np.ndarray, list[changes.Change]]:
    """Returns uint8 (N, H, W, C), and what became of each picture."""
    title = f"A picture of {name}"

    def decode_one(encoded: bytes) -> tuple[np.ndarray, changes.Change]:
        image, deep = image_ops.decode_with(
            encoded,
            lambda picture: changes.to_array(picture, title),
            name=title,
            max_pixels=image_ops.MAX_PIXELS,
        )
        change = changes.find(image, recipe, has_sixteen_bits=deep, is_whole=False)
        return image_ops.apply_recipe(image, recipe), change

    def decode_some(share: list[bytes]) -> list[tuple[np.ndarray, changes.Change]]:
        return [decode_one(encoded) for encoded in share]

    images, changed, num_done = None, [], 0
    num_threads = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for chunk in chunks:
            shares = [chunk[i::num_threads] for i in range(num_threads)]
            decoded = [None] * len(chunk)
            for i, share in enumerate(pool.map(decode_some, shares)):
                decoded[i::num_threads] = share
            if images is None:
                images = np.empty((num_images, *decoded[0][0].shape), np.uint8)
            for index, (image, change) in enumerate(decoded, start=num_done):
                if image.shape != images.shape[1:]:
                    raise UserError(
                        f"The pictures of {name} have different shapes, {images.shape[1:]} and "
                        f"{image.shape}: set data.image_size and data.channels."
                    )
                images[index] = image
                changed.append(change)
            num_done += len(decoded)
    return images, changed
