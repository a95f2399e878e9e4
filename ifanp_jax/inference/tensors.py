"""The variables of a model as named tensors in a safetensors file, and the run that they belong to.

A tensor is named by its Flax path, such as "encoder1/Conv_0/kernel"; one of another collection than the
parameters is named with it: "batch_stats:encoder/BatchNorm_0/mean".
"""

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
from ifanp_jax.models import parameters
from ifanp_jax.version import __version__

_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}  # safetensors' names


def flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of all collections by name.

    Args:
      variables: of a model.
    """
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


def save(
    variables: Mapping[str, Any], *, dtype: str = "float32", metadata: Mapping[str, str] | None = None
) -> bytes:
    """The content of a safetensors file.

    Args:
      variables: of a model.
      dtype: of what is stored of float32 arrays.
      metadata: of the file's header.
    """
    return safetensors.numpy.save(to_arrays(variables, dtype=dtype), metadata=dict(metadata or {}) or None)


def to_arrays(variables: Mapping[str, Any], *, dtype: str = "float32") -> dict[str, np.ndarray]:
    """What `save` stores, by name.

    Args:
      variables: of a model.
      dtype: that float32 arrays take.
    """
    arrays = {name: np.asarray(x, order="C") for name, x in flatten(jax.device_get(variables)).items()}
    return {name: x.astype(dtype) if x.dtype == np.float32 else x for name, x in arrays.items()}


def make_record(config: ConfigDict, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """What a checkpoint and `run.json` say of their run, as JSON values."""
    return {"image_shape": list(image_shape), "config": config.to_dict()}


def parse_record(record: dict[str, Any]) -> tuple[ConfigDict, tuple[int, int, int]]:
    """The configuration and (H, W, C) of a record that went through JSON: lists become tuples again."""
    return ConfigDict(_lists_to_tuples(record["config"])), tuple(record["image_shape"])


def read_model(
    path: pathlib.Path,
    record: Mapping[str, Any],
    *,
    description: str,
    advice: str,
    dtype: str = "float32",
) -> Model:
    """Builds the model that a record describes and reads its variables.

    Args:
      path: of the safetensors file.
      record: with what `make_record` gives, `step` and `version`.
      description: what messages call the place of the record.
      advice: what to do about a file that cannot be used.
      dtype: in which float32 variables are stored.

    Returns:
      The model.

    Raises:
      UserError: when the record describes no model of this version, or the file does not fit it.
    """
    try:
        config, image_shape = parse_record(record)
        module = models.get(config.model, channels=image_shape[-1])
        shapes = parameters.abstract_variables(module, image_shape)
    except Exception as error:  # what Flax raises on values that fit no model has any type
        raise UserError(
            f"{description} describes no model of this version ({first_line(error)}); it was written by "
            f"version {record.get('version')} and this is {__version__}."
        ) from None
    expected = flatten(shapes)
    found = _read(path, expected, dtype, description, advice)
    variables = {name: jnp.asarray(x, expected[name].dtype) for name, x in found.items()}
    return Model(
        module=module,
        variables=unflatten(variables),
        config=config,
        image_shape=image_shape,
        step=record["step"],
    )


def _read(path, shapes, dtype, description, advice) -> dict[str, np.ndarray]:
    """Reads the tensors after checking names, shapes and dtypes against those of the model."""
    expected = {
        name: f"{dtype if x.dtype == np.float32 else x.dtype}{list(x.shape)}" for name, x in shapes.items()
    }
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            found = {
                name: f"{_DTYPES.get(x.get_dtype(), x.get_dtype())}{x.get_shape()}"
                for name, x in slices.items()
            }
            if found == expected:
                return {name: file.get_tensor(name) for name in expected}
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); {advice}.") from None
    names = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    listed = "; ".join(
        f"{name} is {found.get(name, 'missing')}, not {expected.get(name, 'in the model')}"
        for name in names[:4]
    )
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    raise UserError(f"{path} does not fit the model of {description} ({listed}{more}); {advice}.")


def _lists_to_tuples(value):
    if isinstance(value, dict):
        return {name: _lists_to_tuples(child) for name, child in value.items()}
    return tuple(value) if isinstance(value, list) else value
