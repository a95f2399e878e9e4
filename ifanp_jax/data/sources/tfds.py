"""Any TensorFlow Datasets image data set that is prepared on disk, read without TensorFlow."""

import concurrent.futures
import dataclasses
import importlib.util
import os
import pathlib

import numpy as np

from ifanp_jax.data import cache, pictures
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError

_CHUNK = 1024  # examples per read; one by one is about 1.7 times slower


def get(config_data) -> Dataset:
    """Reads the training and the held-out split of a TFDS data set with a feature "image".

    Every picture is cropped to its central square unless the recipe has another crop. A data set that is not
    prepared under `dir` is prepared as array_record where TensorFlow is installed.

    Args:
      config_data: `config.data`; uses `name`, `dir` ("" = TFDS's own default), the splits, the recipe,
        `max_*_images` (only so many are read) and `cache_dir`.

    Returns:
      uint8 (N, H, W, C) and (M, H, W, C) in [0, 255].

    Raises:
      UserError: `dir`, data set or split does not exist, it is not prepared and TensorFlow is missing, it
        has no "image", or its pictures differ in size and `image_size` is 0.
    """
    recipe = pictures.make_recipe(config_data)
    builder = _find_builder(config_data.name, config_data.dir)
    _check_has_image(builder)
    parts = {
        "train": (config_data.train_split, config_data.max_train_images),
        "evaluation": (config_data.eval_split, config_data.max_eval_images),
    }
    sources = {part: (_open_split(builder, split), limit) for part, (split, limit) in parts.items()}

    def build():
        images = {
            part: _read(source, limit, recipe, config_data.name) for part, (source, limit) in sources.items()
        }
        return images, ()

    directory = pathlib.Path(builder.data_path)
    files = sorted(path.name for path in directory.iterdir() if path.is_file())
    key = {
        "source": "tfds",
        "dir": str(directory.resolve()),
        "recipe": dataclasses.asdict(recipe),
        "parts": parts,
    }
    arrays, _ = cache.cached(
        config_data.name, key, cache.fingerprint(directory, files), build, cache_dir=config_data.cache_dir
    )
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
        builder = tensorflow_datasets.builder(name, data_dir=root, file_format="array_record")
    except (
        ValueError,
        AssertionError,
    ) as error:  # also DatasetNotFoundError, whose message lists every data set
        raise UserError(
            f"TFDS has no data set {name!r}: set data.name to a name, configuration and version listed at "
            "https://www.tensorflow.org/datasets/catalog."
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
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"The TFDS data set {name!r} is not prepared {where} and preparing it needs TensorFlow: run "
            f"`pip install 'ifanp_jax[prepare]'` and then `{command}`."
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # anything from a lost network to a full disk
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"The TFDS data set {name!r} could not be prepared {where} ({reason}): run `{command}` to see "
            "why."
        ) from error


def _check_has_image(builder) -> None:
    from tensorflow_datasets.core import features

    found = builder.info.features
    if "image" not in found or not isinstance(found["image"], features.Image):
        raise UserError(
            f"The TFDS data set {builder.name!r} has no image feature called 'image' but "
            f"{', '.join(found)}: choose an image data set."
        )


def _open_split(builder, split: str):
    from tensorflow_datasets import decode

    try:
        # Pillow decodes the bytes here: TFDS would warn about OpenCV and needs TensorFlow for some formats.
        source = builder.as_data_source(split=split, decoders={"image": decode.SkipDecoding()})
        len(source)
    except NotImplementedError as error:
        raise UserError(
            f"The TFDS data set {builder.name!r} is prepared under {builder.data_path} in a format other "
            "than "
            "array_record: prepare it again with file_format='array_record'."
        ) from error
    except (ValueError, KeyError) as error:
        raise UserError(
            f"The TFDS data set {builder.name!r} has no split {split!r} but "
            f"{', '.join(builder.info.splits)}: set "
            "data.train_split and data.eval_split to these, or to a slice such as 'train[:90%]'."
        ) from error
    if not len(source):
        raise UserError(
            f"The split {split!r} of the TFDS data set {builder.name!r} is empty: choose a larger one."
        )
    return source


def _read(source, limit: int, recipe: pictures.Recipe, name: str) -> np.ndarray:
    """Returns uint8 (N, H, W, C), the first `limit` images or all."""
    num_images = min(len(source), limit) if limit > 0 else len(source)

    def decode_some(examples) -> list[np.ndarray]:
        pixels = (pictures.decode_picture(one["image"], name=f"A picture of {name}") for one in examples)
        return [pictures.apply_recipe(image, recipe) for image in pixels]

    images = None
    num_threads = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for start in range(0, num_images, _CHUNK):
            indices = range(start, min(start + _CHUNK, num_images))
            examples = source.__getitems__(list(indices))
            shares = [examples[i::num_threads] for i in range(num_threads)]
            decoded = [None] * len(examples)
            for i, share in enumerate(pool.map(decode_some, shares)):
                decoded[i::num_threads] = share
            if images is None:
                images = np.empty((num_images, *decoded[0].shape), np.uint8)
            for index, image in zip(indices, decoded, strict=True):
                if image.shape != images.shape[1:]:
                    raise UserError(
                        f"The pictures of {name} have different shapes, {images.shape[1:]} and "
                        f"{image.shape}: set "
                        "data.image_size and data.channels."
                    )
                images[index] = image
    return images
