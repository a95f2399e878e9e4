"""What every data source returns."""

import dataclasses
import hashlib
import pathlib

import numpy as np

from ifanp_jax.errors import UserError

DESCRIBED_IMAGES = 64  # about; a data set may be larger than the memory


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training and held-out images in host memory.

    Attributes:
      name: what tables and logs call the data.
      train: uint8 (N, H, W, C) in [0, 255], C = 1 or 3.
      evaluation: uint8 (M, H, W, C), never trained on.
      skipped: names of the files that could not be read, each with the reason.

    Raises:
      UserError: an array is not uint8 (N, H, W, 1 or 3), is empty, or the two differ in (H, W, C).
    """

    name: str
    train: np.ndarray
    evaluation: np.ndarray
    skipped: tuple[str, ...] = ()

    def __post_init__(self):
        """Checks what every other module relies on."""
        for part in ("train", "evaluation"):
            images = getattr(self, part)
            if (
                images.dtype != np.uint8
                or images.ndim != 4
                or images.shape[-1] not in (1, 3)
                or not images.size
            ):
                raise UserError(
                    f"The {part} images of {self.name} are {images.dtype} {images.shape} but must be uint8 "
                    "(N, H, W, 1 or 3) with at least one image: convert them, floats in [0, 1] by "
                    "np.rint(255 * images).astype(np.uint8)."
                )
        if self.train.shape[1:] != self.evaluation.shape[1:]:
            raise UserError(
                f"The training images of {self.name} have shape {self.train.shape[1:]} and the held-out ones "
                f"{self.evaluation.shape[1:]} but both must be equal: set data.image_size and data.channels."
            )


DEFAULT_NAME = "digits"  # of `data.name`: true of that source alone


def name_data(config_data, root: pathlib.Path) -> str:
    """What tables call data that lies in `root`: `data.name` where it was set, else the name of the place.

    Args:
      config_data: `config.data`.
      root: folder or file.
    """
    if config_data.name and config_data.name != DEFAULT_NAME:
        return config_data.name
    return root.resolve().stem if root.is_file() else root.resolve().name


def describe_images(images: np.ndarray) -> dict[str, int | str]:
    """What tells images from others: their number, and a checksum of some of them.

    Args:
      images: uint8 (N, H, W, C).
    """
    some = images[:: max(1, len(images) // DESCRIBED_IMAGES)]
    return {"num_images": len(images), "sha256_of_some_images": hashlib.sha256(some.tobytes()).hexdigest()}
