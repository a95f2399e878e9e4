"""What the tests of the sources share."""

import pathlib

import numpy as np
from PIL import Image

from configs import default


def make_config(tmp_path, **fields):
    config = default.get_config().data
    config.cache_dir = str(tmp_path / "cache")
    config.update(
        {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in fields.items()}
    )
    return config


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_pictures(root, num_pictures, *shape, suffix="png"):
    root.mkdir(parents=True, exist_ok=True)
    images = random_images(num_pictures, *shape)
    for number, image in enumerate(images, start=1):
        Image.fromarray(image).save(root / f"{number:06d}.{suffix}")
    return images
