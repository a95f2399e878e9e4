"""A folder of pictures; held out are a sub-folder, those of CelebA's partition file, or some by hash."""

import collections.abc
import concurrent.futures
import dataclasses
import hashlib
import logging
import os
import pathlib

import numpy as np

from ifanp_jax import memory
from ifanp_jax.data import cache, changes, image_ops, squares
from ifanp_jax.data.dataset import Dataset, name_data
from ifanp_jax.errors import UserError

logger = logging.getLogger(__name__)

MAX_SHARE_OF_MEMORY = 0.3  # that the images of a folder may take while they are read
PARTITION_NUMBERS = {"val": 1, "validation": 1, "test": 2}


def load(config_data) -> Dataset:
    """Reads, crops and resizes every picture below a folder, or cuts it into tiles.

    Every picture is cropped to its central square unless the recipe has another crop, or tiles are asked for;
    the log says how much that leaves out. Tiles are squares of `tile_size`, of the whole picture: at its own
    size, or with its shorter side brought to `image_size`, and then no larger than that. Where every picture
    is smaller than a tile, tiles are as large as the smallest picture.
    Pictures that cannot be read, do not fit the crop or are not in the partition file are left out and named
    in `skipped`.

    Args:
      config_data: `config.data`; uses `name`, `dir`, `train_split` and `eval_split` (sub-folders, or the
        latter with a partition file), `eval_fraction`, `partition_file`, the recipe, `tile_size`,
        `max_*_images` (only so many pictures are read) and `cache_dir`.

    Returns:
      uint8 (N, H, W, C) and (M, H, W, C) in [0, 255]; without `channels`, RGB if any picture has colour.

    Raises:
      UserError: the folder is missing or empty, nothing can be read, one part is empty, or sizes differ and
        `image_size` is 0.
    """
    recipe = image_ops.make_recipe(config_data)
    root = pathlib.Path(config_data.dir).expanduser() if config_data.dir else None
    if root is None or not root.is_dir():
        raise UserError(
            f"data.dir is {config_data.dir!r} but must be a folder of pictures: name one that exists."
        )
    names = image_ops.list_pictures(root)
    if not names:
        raise UserError(
            f"There is no picture below {root} (allowed are {', '.join(image_ops.SUFFIXES)}): name another "
            "folder."
        )
    train_names, eval_names, unlisted = _split(names, config_data)
    limits = {"train": config_data.max_train_images, "evaluation": config_data.max_eval_images}

    def build():
        parts = {"train": train_names, "evaluation": eval_names}
        return _read_parts(
            root, parts, limits, recipe, _choose_side(root, names, recipe, config_data.tile_size)
        )

    key = _make_key(root, recipe, config_data.tile_size, limits, (train_names, eval_names))
    name = name_data(config_data, root)
    found = cache.fingerprint(root, names)
    arrays, unreadable = cache.cached(name, key, found, build, cache_dir=config_data.cache_dir)
    dataset = Dataset(name, arrays["train"], arrays["evaluation"], skipped=(*unreadable, *unlisted))
    summary = changes.unpack(arrays["changes"])
    if config_data.tile_size:
        _tell_tiles(dataset, summary["num_pictures"])
    advice = "; config.data.tile_size=SIDE cuts them into squares and keeps all"
    changes.tell(summary, str(root), recipe.image_size, advice=advice)
    return dataset


def _make_key(root, recipe, tile_size, limits, split):
    """All that decides which images a folder gives; what was cached under another key is read anew."""
    return {
        "source": "folder",
        "arrays": ("train", "evaluation", "summary"),
        "dir": str(root.resolve()),
        "recipe": dataclasses.asdict(recipe),
        "tile_size": tile_size,
        "limits": limits,
        "split": hashlib.sha256(repr(split).encode()).hexdigest(),
    }


def _tell_tiles(dataset, num_pictures):
    """Says what became of whole pictures."""
    side = dataset.train.shape[1]
    logger.info(
        "Cut %d whole pictures into %d squares of %dx%d pixels for training and %d for the evaluation.",
        num_pictures,
        len(dataset.train),
        side,
        side,
        len(dataset.evaluation),
    )


def _split(names, config_data):
    """Training names, held-out names, and the others with their reasons."""
    if config_data.partition_file:
        partition = read_partition(config_data.partition_file)
        return split_by_partition(names, partition, config_data.eval_split)
    by_folder = split_by_folder(names, config_data.train_split, config_data.eval_split)
    return by_folder or (*split_by_hash(names, config_data.eval_fraction), ())


def split_by_hash(names: collections.abc.Sequence[str], eval_fraction: float) -> tuple[list[str], list[str]]:
    """Holds out the names whose SHA-256, read as a fraction of 1, is below `eval_fraction`.

    A name keeps its part when other files are added, except where one part would be empty: that part then
    takes the one name nearest to it.

    Args:
      names: relative paths.
      eval_fraction: expected share of held-out names, in (0, 1).

    Returns:
      Training and held-out names in the order given, at least one each.

    Raises:
      UserError: the share is not in (0, 1) or there are fewer than two names.
    """
    if not 0 < eval_fraction < 1:
        raise UserError(
            f"data.eval_fraction is {eval_fraction} but must lie between 0 and 1: choose for example 0.1."
        )
    if len(names) < 2:
        raise UserError(
            f"There is only {len(names)} picture but training and evaluation need one each: add pictures."
        )
    places = {
        name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64 for name in names
    }
    held_out = {name for name in names if places[name] < eval_fraction}
    if not held_out:
        held_out = {min(names, key=places.__getitem__)}
    if len(held_out) == len(names):
        held_out.remove(max(names, key=places.__getitem__))
    return [name for name in names if name not in held_out], [name for name in names if name in held_out]


def read_partition(path: str | pathlib.Path) -> dict[str, int]:
    """Reads CelebA's list_eval_partition.txt: lines `000001.jpg 0`, 0 = train, 1 = validation, 2 = test.

    Args:
      path: the text file.

    Returns:
      Number by file name.

    Raises:
      UserError: the file is missing or a line has another form.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise UserError(
            f"data.partition_file is {path}, which does not exist: name the file or leave it empty."
        )
    partition = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
            raise UserError(
                f"Line {number} of {path} is {line[:60]!r} but must be a file name and 0 (train), 1 "
                "(validation) or 2 (test): correct it."
            )
        partition[fields[0]] = int(fields[1])
    return partition


def split_by_partition(
    names: collections.abc.Sequence[str], partition: collections.abc.Mapping[str, int], eval_split: str
) -> tuple[list[str], list[str], tuple[str, ...]]:
    """Splits by the partition file; a name is looked up as relative path, then as bare file name.

    Args:
      names: relative paths; only some of the listed ones need exist.
      partition: from `read_partition`.
      eval_split: "val" or "validation" (1), or "test" (2).

    Returns:
      Training names, held-out names, and the unlisted names, each with the reason.

    Raises:
      UserError: `eval_split` is unknown, or no picture is in one of the two parts.
    """
    if eval_split not in PARTITION_NUMBERS:
        raise UserError(
            f"data.eval_split is {eval_split!r} but with a partition file it must be one of "
            f"{', '.join(PARTITION_NUMBERS)}: set it."
        )
    numbers = {name: partition.get(name, partition.get(name.rsplit("/", 1)[-1])) for name in names}
    train = [name for name in names if numbers[name] == 0]
    held_out = [name for name in names if numbers[name] == PARTITION_NUMBERS[eval_split]]
    unlisted = tuple(f"{name}: not in the partition file" for name in names if numbers[name] is None)
    if not train or not held_out:
        raise UserError(
            f"The partition file gives {len(train)} of {len(names)} pictures to train (0) and "
            f"{len(held_out)} to {eval_split} ({PARTITION_NUMBERS[eval_split]}) but both need at least one: "
            "set another data.eval_split or add pictures, or leave data.partition_file empty."
        )
    return train, held_out, unlisted


def split_by_folder(
    names: collections.abc.Sequence[str], train_split: str, eval_split: str
) -> tuple[list[str], list[str], tuple[str, ...]] | None:
    """Splits by the first folder of each name, where the folders of both splits hold pictures.

    Args:
      names: relative paths.
      train_split: folder of the training pictures.
      eval_split: folder of the held-out pictures.

    Returns:
      Training names, held-out names, and the names in other folders, each with the reason; None where the
      folder is not divided so.
    """
    folders = {name: name.split("/")[0] if "/" in name else "" for name in names}
    train = [name for name in names if folders[name] == train_split]
    held_out = [name for name in names if folders[name] == eval_split]
    if not train or not held_out:
        return None
    others = [name for name in names if folders[name] not in (train_split, eval_split)]
    return train, held_out, tuple(f"{name}: neither in {train_split} nor in {eval_split}" for name in others)


def _read_parts(
    root: pathlib.Path,
    parts: dict[str, list[str]],
    limits: dict[str, int],
    recipe: image_ops.Recipe,
    tile_size: int,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    images: dict[str, list[np.ndarray]] = {}
    skipped: list[str] = []
    changed: list[changes.Change] = []  # of each picture
    for part, names in parts.items():
        images[part], failed, of_part = _read_names(root, names, limits[part], recipe, tile_size)
        skipped.extend(failed)
        changed.extend(of_part)
    if not any(images.values()):
        raise UserError(
            f"None of the {len(skipped)} pictures below {root} can be used (the first: "
            f"{skipped[0].rstrip('.')}): repair them or change the crop."
        )
    for part in images:
        if not images[part]:
            raise UserError(
                f"None of the {len(parts[part])} pictures for {part} below {root} can be used: repair them, "
                "or change data.eval_fraction or the crop."
            )
    every = [image for part in images.values() for image in part]
    if len(sizes := sorted({image.shape[:2] for image in every})) > 1:
        raise UserError(
            f"The pictures below {root} have different sizes after cropping, for example {sizes[0]} and "
            f"{sizes[-1]}: set data.image_size, data.crop_size or data.tile_size."
        )
    channels = recipe.channels or max(image.shape[-1] for image in every)
    arrays = {
        part: np.stack([image_ops.to_channels(image, channels) for image in images[part]]) for part in images
    }
    arrays["changes"] = changes.pack(changed)
    return arrays, tuple(skipped)


def _read_names(
    root: pathlib.Path, names: list[str], limit: int, recipe: image_ops.Recipe, tile_size: int
) -> tuple[list[np.ndarray], list[str], list[changes.Change]]:
    """Reads names until `limit` (0 = no limit) pictures are good; their images or tiles, dealt in turn.

    Also what was not good, and what became of each good one.
    """

    def read_one(name: str) -> tuple[list[np.ndarray], changes.Change] | str:
        try:
            return _read_images(root / name, recipe, tile_size)
        except UserError as error:
            return f"{name}: {error}"

    good, skipped, position, num_bytes = [], [], 0, 0
    allowed_bytes = MAX_SHARE_OF_MEMORY * memory.machine_bytes()
    wanted = limit if limit > 0 else len(names)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        while len(good) < wanted and position < len(names):
            batch = names[position : position + wanted - len(good)]
            position += len(batch)
            for result in pool.map(read_one, batch):
                (skipped if isinstance(result, str) else good).append(result)
                num_bytes += 0 if isinstance(result, str) else sum(image.size for image in result[0])
                if num_bytes > allowed_bytes:  # before the system ends the process; it is copied once
                    raise UserError(
                        f"The pictures below {root} take more than {num_bytes / 2**30:.1f} GiB of memory: "
                        "set data.image_size, the number of pixels to which the shorter side of each is "
                        "reduced."
                    )
    return squares.interleave([images for images, _ in good]), skipped, [changed for _, changed in good]


def _choose_side(root: pathlib.Path, names: list[str], recipe: image_ops.Recipe, tile_size: int) -> int:
    """Side of the tiles, 0 = none: what is asked for, or what every picture has where all are smaller."""
    if not tile_size or recipe.has_geometry:
        return min(tile_size, recipe.image_size or tile_size)
    sides = []
    for name in names:
        try:
            sides.append(image_ops.read_with(root / name, lambda picture: min(picture.size)))
        except UserError:  # it is named later
            continue
        if sides[-1] >= tile_size:
            return tile_size
    return min(sides, default=tile_size)


def _read_images(
    path: pathlib.Path, recipe: image_ops.Recipe, tile_size: int
) -> tuple[list[np.ndarray], changes.Change]:
    """The image of a picture, or its tiles, and what became of it."""
    image, deep = image_ops.read_with(path, lambda picture: changes.to_array(picture, str(path)))
    change = changes.find(image, recipe, has_sixteen_bits=deep, is_whole=bool(tile_size))
    if not tile_size:
        return [image_ops.apply_recipe(image, recipe).copy()], change
    if recipe.crop_size or recipe.crop_box:
        image = image_ops.crop(image, size=recipe.crop_size, box=recipe.crop_box)
    image = image_ops.to_channels(image, recipe.channels)
    if recipe.image_size:
        image = image_ops.resize_area(image, *(round(change.factor * side) for side in image.shape[:2]))
    if min(image.shape[:2]) < tile_size:
        raise UserError(
            f"it has {image.shape[0]}x{image.shape[1]} pixels, which is less than data.tile_size, {tile_size}"
        )
    return list(squares.cut_tiles(image, tile_size)), change
