"""One file of weights: safetensors, with all that is known of them as strings in its header.

`safetensors.safe_open(path, "numpy").metadata()` gives `FIELDS` by name. `sha256` is that of the other fields
and of the tensors; see `hash_all`.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ifanp_jax.errors import UserError, first_line
from ifanp_jax.inference import tensors
from ifanp_jax.inference.model import Model
from ifanp_jax.version import __version__

FORMAT = "1"
DTYPES = ("float32", "float16")
FIELDS = {
    "format": "of the file, raised when it changes",
    "version": "of the package that wrote it",
    "name": "of the model",
    "config": "the whole configuration, JSON",
    "image_shape": "(H, W, C) of the training images, JSON",
    "data": "name of the data set and its two parts",
    "crop": "what is used of each image",
    "range": "of the values that the model takes",
    "sigma_floor": "least standard deviation that it answers with",
    "seed": "of the training",
    "step": "optimiser steps done",
    "num_parameters": "values",
    "commit": "of the code that trained it",
    "command": "that trains it again",
    "validation": "the numbers of its evaluation, each with its n, JSON",
    "dtype": "of what is stored: float32 or float16; it is computed with float32",
    "rounding": "what the storage changes, JSON",
    "licence": "of the weights, in a few words",
    "notice": "what is said when they are loaded; may be empty",
    "sha256": "of all of the above and the tensors",
}
ADVICE = "install the package again, or take a new copy of the file"


def hash_all(record: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a record and of tensors.

    Hashed are the record without `sha256` as JSON with sorted names, and then for each tensor by its name:
    the line "name dtype shape" and its bytes in C order.

    Args:
      record: of FIELDS.
      arrays: by name.

    Returns:
      64 hexadecimal digits.
    """
    fields = {name: value for name, value in record.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def serialize(model: Model, record: Mapping[str, str]) -> bytes:
    """The content of the file of a model.

    Args:
      model: trained.
      record: every one of FIELDS but `format`, `version`, `image_shape`, `step` and `sha256`.
    """
    h, w, c = model.image_shape
    record = {
        **record,
        "format": FORMAT,
        "version": __version__,
        "image_shape": json.dumps([h, w, c]),
        "step": str(model.step),
    }
    record["sha256"] = hash_all(record, tensors.to_arrays(model.variables, dtype=record["dtype"]))
    if set(record) != set(FIELDS):
        raise ValueError(f"The record and the fields of the format differ in {set(record) ^ set(FIELDS)}.")
    return tensors.save(model.variables, dtype=record["dtype"], metadata=record)


def read(path: pathlib.Path) -> tuple[Model, dict[str, str]]:
    """Reads and checks a file.

    Args:
      path: of the file.

    Returns:
      The model, its variables in float32, and the record of FIELDS.

    Raises:
      UserError: when the file is damaged, or of another format or program.
    """
    record = read_record(path)
    try:
        arrays = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); {ADVICE}.") from None
    if hash_all(record, arrays) != record["sha256"]:
        raise UserError(f"{path} is damaged: its SHA-256 is not the one that it names; {ADVICE}.")
    parsed = {name: json.loads(record[name]) for name in ("config", "image_shape", "step")}
    model = tensors.read_model(
        path,
        parsed | {"version": record["version"]},
        description=f"the header of {path}",
        advice=ADVICE,
        dtype=record["dtype"],
    )
    return model, record


def read_record(path: pathlib.Path) -> dict[str, str]:
    """Reads the header alone.

    Args:
      path: of the file.

    Returns:
      The record of FIELDS.

    Raises:
      UserError: when it cannot be read, or is of another format or program.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            record = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); {ADVICE}.") from None
    if record.get("format") != FORMAT or not set(FIELDS) <= set(record) or record["dtype"] not in DTYPES:
        raise UserError(
            f"{path} has format {record.get('format')!r} but this version ({__version__}) reads {FORMAT}: "
            "give a file that python -m benchmarks.release wrote, or update the package."
        )
    return record


def list_values(record: Mapping[str, str]) -> dict[str, Any]:
    """The record with its JSON fields as values.

    Args:
      record: of FIELDS.
    """
    parsed = {name: json.loads(record[name]) for name in ("config", "image_shape", "validation", "rounding")}
    return dict(record) | parsed
