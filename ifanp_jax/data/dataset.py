"""What every data source returns."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training and held-out images in host memory.

    Attributes:
      name: what tables and logs call the data.
      train: uint8 (N, H, W, C) in [0, 255], C = 1 or 3.
      evaluation: uint8 (M, H, W, C), never trained on.
      skipped: names of the files that could not be read, each with the reason.
    """

    name: str
    train: np.ndarray
    evaluation: np.ndarray
    skipped: tuple[str, ...] = ()
