"""What an earlier run of the same command completed, so that a folder goes on where it ended.

`completed.json` in the output holds, for each picture, the hash of all that its answers follow from: its
bytes, its mask, the model's parameters and the options. Another mask or option completes a picture again.
"""

import dataclasses
import hashlib
import json
import pathlib

import jax
import numpy as np

from ifanp_jax import files
from ifanp_jax.version import __version__

FILE_NAME = "completed.json"


@dataclasses.dataclass(frozen=True)
class Done:
    """The record of one output folder.

    Attributes:
      path: of the file.
      settings: hash of what all pictures share.
      hashes: by the stem of a picture's answers.
    """

    path: pathlib.Path
    settings: str
    hashes: dict[str, str]

    def hash(self, picture: pathlib.Path, observed: np.ndarray) -> str:
        """Of a picture's file and its mask, bool (H, W), under these settings."""
        digest = hashlib.sha256(f"{self.settings} {files.hash_file(picture)} {observed.shape}".encode())
        digest.update(np.packbits(observed).tobytes())
        return digest.hexdigest()

    def has(self, stem: str, found: str) -> bool:
        """Whether the answers of that hash are there: the sheet is the last one that is written."""
        return self.hashes.get(stem) == found and (self.path.parent / f"{stem}_preview.png").is_file()

    def add(self, stem: str, found: str) -> None:
        """Notes that a picture is done."""
        self.hashes[stem] = found
        files.write_whole(self.path, json.dumps(self.hashes, indent=1) + "\n")


def read(output: pathlib.Path, model, *rest: object) -> Done:
    """What is there; a damaged file counts as none.

    Args:
      output: the folder.
      model: or method, whose parameters count.
      *rest: all else that decides the answers, by what is printed of it.
    """
    path = output / FILE_NAME
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        found = {}
    return Done(path, _hash_settings(model, rest), found if isinstance(found, dict) else {})


def _hash_settings(model, rest):
    digest = hashlib.sha256(f"{__version__} {type(model).__name__} {rest!r}".encode())
    if hasattr(model, "variables"):
        digest.update(repr(model.module).encode())
        for leaf in jax.tree.leaves(model.variables):
            digest.update(np.ascontiguousarray(leaf).tobytes())
    else:
        digest.update(repr(model).encode())
    return digest.hexdigest()
