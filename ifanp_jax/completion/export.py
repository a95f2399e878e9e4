"""A trained model as files that other programs read without this package, and back.

| file                 | holds                                                                          |
|----------------------|--------------------------------------------------------------------------------|
| model.safetensors    | evaluation parameters, float32, by Flax paths such as "encoder1/Conv_0/kernel" |
| config.json          | step, shape of the images, every field of the model, configuration of the run, |
|                      | SHA-256 of the other two files                                                 |
| completion.stablehlo | what `serialize_completion` returns                                            |

Variables of other collections than the parameters are named with it: "batch_stats:encoder/BatchNorm_0/mean".
"""

import dataclasses
import hashlib
import json
import pathlib
import secrets
import shutil
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from ifanp_jax import models
from ifanp_jax.completion.limits import DEFAULT_LIMITS
from ifanp_jax.completion.model import CompletionModel
from ifanp_jax.errors import UserError, first_line
from ifanp_jax.models import answers
from ifanp_jax.training import checksums, parameters, runs
from ifanp_jax.version import __version__

FORMAT = 1
CONFIG_FILE = "config.json"
TENSORS_FILE = "model.safetensors"
PROGRAM_FILE = "completion.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")
_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}  # safetensors' names


def write(run: runs.Run, output: str | pathlib.Path, *, num_samples: int) -> None:
    """Exports a run with its evaluation parameters; the folder appears once it is whole.

    Args:
      run: a training as it stands on disk.
      output: a new or empty folder.
      num_samples: S of the program in `completion.stablehlo`.

    Raises:
      UserError: when the folder is not empty or cannot be made, or `serialize_completion` refuses S.
    """
    output = pathlib.Path(output).expanduser().resolve()
    _check_output(output)
    variables = jax.device_get(run.variables)
    tensors = {name: np.asarray(x, order="C") for name, x in _flatten(variables).items()}
    files = {
        PROGRAM_FILE: serialize_completion(run.model, variables, run.image_shape, num_samples=num_samples),
        TENSORS_FILE: safetensors.numpy.save(tensors),
    }
    record = {
        "format": FORMAT,
        "version": __version__,
        "step": run.num_steps_done,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "model": {"name": run.config.model.name, **_list_fields(run.model)},
        "completion": {"num_samples": num_samples, "platforms": PLATFORMS, "jax": jax.__version__},
        **runs.make_record(run.config, run.image_shape),
    }
    files[CONFIG_FILE] = (json.dumps(record, indent=2) + "\n").encode()
    unfinished = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        unfinished.mkdir(parents=True)
        for name, content in files.items():
            (unfinished / name).write_bytes(content)
        unfinished.rename(output)
    except OSError as error:
        raise UserError(
            f"The output {output} cannot be written ({error.strerror}); make room or name another folder."
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # where all went well it has another name by now


def serialize_completion(
    model: nn.Module, variables: Any, image_shape: tuple[int, int, int], *, num_samples: int
) -> bytes:
    """Serializes `complete` as one StableHLO program for PLATFORMS, with the variables inside.

    The program takes `seed`, uint32 scalar; `image`, float32 (B, H, W, C) in [0, 1], any value where not
    observed; and `mask`, bool (B, H, W, 1), True = observed, for any B. It answers with the predicted means,
    not clipped, observed pixels as the model predicts them, and, where the model has one, the likelihood's
    standard deviation; float32 (S, B, H, W, C) each. They are those of `CompletionModel.complete` with one
    round and the same seed and S: the draws come from `jax.random.fold_in(jax.random.key(seed), 0)`.

    Args:
      model: Flax module with the verb `complete`.
      variables: its parameters and other collections.
      image_shape: (H, W, C).
      num_samples: S.

    Returns:
      What `jax.export.deserialize` reads.

    Raises:
      UserError: when S is below 1, or more than `CompletionModel.complete` draws from one key.
    """
    h, w, c = image_shape
    most = max(1, DEFAULT_LIMITS.positions_at_once // (h * w))
    if not 1 <= num_samples <= most:
        raise UserError(
            f"num_samples is {num_samples}; a program for images of {h}x{w} pixels draws from 1 to {most}."
        )

    def complete(seed, image, mask):
        key = jax.random.fold_in(jax.random.key(seed), 0)
        completion = answers.complete_batch(key, model, variables, image, mask, num_samples=num_samples)
        found = (completion.samples, completion.scale)
        return tuple(x for x in found if x is not None)

    (b,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(complete), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((), jnp.uint32),
        jax.ShapeDtypeStruct((b, h, w, c), jnp.float32),
        jax.ShapeDtypeStruct((b, h, w, 1), jnp.bool_),
    )
    return bytes(exported.serialize())


def is_export(path: pathlib.Path) -> bool:
    """Whether a folder is meant to be an exported model, whole or not; no working directory is."""
    return any((path / name).is_file() for name in (CONFIG_FILE, TENSORS_FILE))


def read(path: pathlib.Path) -> CompletionModel:
    """Reads `config.json` and `model.safetensors` of an exported model.

    Args:
      path: the folder.

    Returns:
      The model, which answers as that of the working directory does, bit for bit.

    Raises:
      UserError: when a file is missing or damaged, is of another format, or the two do not fit each other.
    """
    record = _read_record(path / CONFIG_FILE)
    try:
        config, image_shape = runs.parse_record(record)
        model = models.get(config.model, channels=image_shape[-1])
        shapes = jax.eval_shape(
            lambda key: parameters.init_variables(key, model, image_shape), jax.random.key(0)
        )
    except Exception as error:  # what Flax raises on values that fit no model has any type
        raise UserError(
            f"{path / CONFIG_FILE} describes no model of this version ({first_line(error)}); "
            f"it was exported by version {record.get('version')} and this is {__version__}."
        ) from None
    _check_sum(path / TENSORS_FILE, record["sha256"])
    tensors = _read_tensors(path / TENSORS_FILE, _flatten(shapes))
    return CompletionModel(
        model=model,
        variables=_unflatten({name: jnp.asarray(x) for name, x in tensors.items()}),
        config=config,
        step=record["step"],
        image_shape=image_shape,
    )


def _flatten(variables):
    """Arrays by name: the Flax path, for another collection than `params` after its name and a colon."""
    return {
        ("" if collection == "params" else f"{collection}:") + name: x
        for collection, tree in variables.items()
        for name, x in traverse_util.flatten_dict(tree, sep="/").items()
    }


def _unflatten(tensors):
    collections = {}
    for name, x in tensors.items():
        collection, _, path = name.rpartition(":")
        collections.setdefault(collection or "params", {})[path] = x
    return {name: traverse_util.unflatten_dict(flat, sep="/") for name, flat in collections.items()}


def _list_fields(module: nn.Module) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(module) if field.name not in ("parent", "name")]
    return {name: getattr(module, name) for name in names}


def _check_output(output: pathlib.Path) -> None:
    try:
        is_free = not output.exists() or not any(output.iterdir())
    except OSError as error:
        raise UserError(
            f"The output {output} cannot be used ({error.strerror}); name a new folder."
        ) from None
    if not is_free:
        raise UserError(f"The output {output} is not empty; name a new folder.")


def _read_record(path: pathlib.Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; the export is not whole: export the run again.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); export the run again.") from None
    found = record.get("format") if isinstance(record, dict) else None
    if found is None or not {"step", "sha256", "image_shape", "config"} <= set(record):
        raise UserError(f"{path} is not of this package; give what --mode=export wrote, or a --workdir.")
    if found != FORMAT:
        raise UserError(
            f"{path} has format {found!r}, but this version ({__version__}) reads {FORMAT}; update the "
            "package or export the run again."
        )
    shape, step = record["image_shape"], record["step"]
    is_shape = isinstance(shape, list) and len(shape) == 3 and all(type(x) is int and x > 0 for x in shape)
    if not is_shape or type(step) is not int:
        raise UserError(
            f"{path} gives image_shape {shape!r} and step {step!r}; they must be three whole numbers of at "
            "least 1, and one: export the run again."
        )
    return record


def _check_sum(path: pathlib.Path, expected: dict[str, str]) -> None:
    try:
        found = checksums.hash_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; the export is not whole: export the run again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); export the run again.") from None
    if not isinstance(expected, dict) or found != expected.get(path.name):
        raise UserError(
            f"{path} is damaged: its SHA-256 is not the one in {CONFIG_FILE} beside it; export the run again."
        )


def _read_tensors(path: pathlib.Path, shapes: dict[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    """Reads the tensors after checking names, shapes and dtypes against those of the model."""
    expected = {name: f"{x.dtype}{list(x.shape)}" for name, x in shapes.items()}
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
        raise UserError(f"{path} cannot be read ({first_line(error)}); export the run again.") from None
    names = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    listed = "; ".join(
        f"{name} is {found.get(name, 'missing')}, not {expected.get(name, 'in the model')}"
        for name in names[:4]
    )
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    raise UserError(
        f"{path} does not fit the model of {CONFIG_FILE} beside it ({listed}{more}); export the run again."
    )
