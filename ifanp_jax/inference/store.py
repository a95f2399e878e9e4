"""One file holds one trained model: safetensors, with all that is known of it as strings in the header.

`safetensors.safe_open(path, "numpy").metadata()` gives the fields by name. Exports and shipped models have
the same format. A tensor is named by its Flax path, such as "encoder1/Conv_0/kernel"; one of another
collection than the parameters is named with it: "batch_stats:encoder/BatchNorm_0/mean".
"""

import functools
import hashlib
import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util
from ml_collections import ConfigDict

from ifanp_jax import models
from ifanp_jax.errors import UserError, first_line
from ifanp_jax.inference.model import Model
from ifanp_jax.inference.options import DTYPES
from ifanp_jax.models import parameters
from ifanp_jax.version import __version__

logger = logging.getLogger(__name__)

FORMAT = "1"
SUFFIX = ".safetensors"
FILE_NAME = "model.safetensors"  # in the folder of an export
PROGRAM_NAME = "completion.stablehlo"  # beside it
# What every file says; others say more, which is kept as it is.
FIELDS = {
    "format": "of the file, raised when it changes",
    "version": "of the package that wrote it",
    "config": "the whole configuration, JSON",
    "image_shape": "(H, W, C) of the training images, JSON",
    "step": "optimiser steps done",
    "dtype": "of what is stored: float32 or float16; it is computed with float32",
    "licence": "of the weights, in a few words; may be empty",
    "notice": "what is said when they are loaded; may be empty",
    "sha256": "of all other fields and the tensors, see `hash_all`",
}
ADVICE = "take a new copy of the file, or install the package or export the model again"


def find_file(path: pathlib.Path) -> pathlib.Path | None:
    """The file that a path means: itself, or that of an export, which may be missing; None for a training."""
    if path.is_dir() and any((path / name).is_file() for name in (FILE_NAME, PROGRAM_NAME)):
        return path / FILE_NAME
    return path if path.is_file() else None


def read(path: pathlib.Path) -> Model:
    """Reads and checks a file, and says its licence once; `about` is its whole header.

    Raises:
      UserError: when the file is missing or damaged, or of another format or program.
    """
    record = read_record(path)
    try:
        arrays = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); {ADVICE}.") from None
    if hash_all(record, arrays) != record["sha256"]:
        raise UserError(f"{path} is damaged: its SHA-256 is not the one that it names; {ADVICE}.")
    # What the file describes, and whether its tensors fit it.
    config, image_shape, step = _parse(path, record)
    try:
        module = models.get(config.model, channels=image_shape[-1])
        expected = flatten(parameters.abstract_variables(module, image_shape))
    except Exception as error:  # what Flax raises on values that fit no model has any type
        raise UserError(
            f"The header of {path} describes no model of this version ({first_line(error)}); it was written "
            f"by version {record['version']} and this is {__version__}."
        ) from None
    _check_fit(path, arrays, expected, record["dtype"])
    variables = {name: jnp.asarray(arrays[name], x.dtype) for name, x in expected.items()}
    _tell_licence(path, record["licence"], record["notice"])
    return Model(module, unflatten(variables), config, image_shape, step, about=record)


def read_record(path: pathlib.Path) -> dict[str, str]:
    """Reads the header alone, the fields by name; a UserError where that fails, or where it is foreign."""
    if not path.is_file():
        raise UserError(f"{path} is missing; export the model again.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            record = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); {ADVICE}.") from None
    if record.get("format") != FORMAT or not set(FIELDS) <= set(record) or record["dtype"] not in DTYPES:
        raise UserError(
            f"{path} has format {record.get('format')!r} but this version ({__version__}) reads {FORMAT}: "
            "give a file that --mode=export or python -m benchmarks.release wrote, or update the package."
        )
    return record


def serialize(model: Model, *, dtype: str = "float32", about: Mapping[str, str] | None = None) -> bytes:
    """The content of the file of a model.

    Args:
      dtype: of what is stored of float32 arrays, of DTYPES.
      about: fields beside those that follow from the model; `licence` and `notice` are empty without it.
    """
    record = {"licence": "", "notice": "", **(about or {}), "format": FORMAT, "version": __version__}
    record |= {"config": json.dumps(model.config.to_dict()), "image_shape": json.dumps(model.image_shape)}
    record |= {"step": str(model.step), "dtype": dtype}
    arrays = to_arrays(model.variables, dtype=dtype)
    record["sha256"] = hash_all(record, arrays)
    return safetensors.numpy.save(arrays, metadata=record)


def hash_all(record: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a record and of tensors, hexadecimal.

    Hashed are the record without `sha256` as JSON with sorted names, and then for each tensor by its name:
    the line "name dtype shape" and its bytes in C order.
    """
    fields = {name: value for name, value in record.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def to_arrays(variables: Mapping[str, Any], *, dtype: str = "float32") -> dict[str, np.ndarray]:
    """The tensors of a file by name; `dtype` is what float32 arrays take."""
    arrays = {name: np.asarray(x, order="C") for name, x in flatten(jax.device_get(variables)).items()}
    return {name: x.astype(dtype) if x.dtype == np.float32 else x for name, x in arrays.items()}


def flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of all collections by the names of their tensors."""
    return {
        ("" if collection == "params" else f"{collection}:") + name: x
        for collection, tree in variables.items()
        for name, x in traverse_util.flatten_dict(tree, sep="/").items()
    }


def unflatten(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    collections = {}
    for name, x in tensors.items():
        collection, _, path = name.rpartition(":")
        collections.setdefault(collection or "params", {})[path] = x
    return {name: traverse_util.unflatten_dict(flat, sep="/") for name, flat in collections.items()}


def to_config(fields: Mapping[str, Any]) -> ConfigDict:
    """A configuration that went through JSON: its lists become tuples again."""

    def convert(value):
        if isinstance(value, dict):
            return {name: convert(child) for name, child in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return ConfigDict(convert(fields))


def _parse(path, record) -> tuple[ConfigDict, tuple[int, int, int], int]:
    """The configuration, (H, W, C) and the step."""
    try:
        config, shape, step = (json.loads(record[name]) for name in ("config", "image_shape", "step"))
    except ValueError as error:
        raise UserError(f"The header of {path} cannot be read ({first_line(error)}); {ADVICE}.") from None
    is_shape = isinstance(shape, list) and len(shape) == 3 and all(type(x) is int and x > 0 for x in shape)
    if not is_shape or type(step) is not int or not isinstance(config, dict):
        raise UserError(
            f"The header of {path} gives image_shape {shape!r} and step {step!r}; they must be three whole "
            f"numbers of at least 1, and one, beside a configuration: {ADVICE}."
        )
    return to_config(config), tuple(shape), step


def _check_fit(path, arrays, shapes, dtype) -> None:
    """Compares names, dtypes and shapes with those of the model, and refuses values that are not finite."""
    found = {name: f"{x.dtype}{list(x.shape)}" for name, x in arrays.items()}
    expected = {
        name: f"{dtype if x.dtype == np.float32 else x.dtype}{list(x.shape)}" for name, x in shapes.items()
    }
    names = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    if names:
        pairs = [(name, found.get(name, "missing"), expected.get(name, "in the model")) for name in names[:4]]
        listed = "; ".join(f"{name} is {given}, not {wanted}" for name, given, wanted in pairs)
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        raise UserError(f"{path} does not fit the model of its header ({listed}{more}); {ADVICE}.")
    for name, x in arrays.items():
        if not np.isfinite(x).all():
            raise UserError(f"{path} holds values of {name} that are not finite; {ADVICE}.")


@functools.cache  # once in a process
def _tell_licence(path, licence, notice):
    places = [path.with_name(f"{path.stem}_licence.txt"), path.with_suffix(".md"), path]
    place = next(place for place in places if place.is_file())
    level = logging.WARNING if notice else logging.INFO  # a program without a log shows warnings alone
    said = f"Licence of {path.stem}: {licence}, {place}" if licence else ""
    if notice or said:
        logger.log(level, "%s", " ".join(filter(None, [notice, said])))
