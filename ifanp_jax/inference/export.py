"""A trained model as files that other programs read without this package, and back.

| file                 | holds                                                                          |
|----------------------|--------------------------------------------------------------------------------|
| model.safetensors    | evaluation parameters, float32, by Flax paths such as "encoder1/Conv_0/kernel" |
| config.json          | step, shape of the images, every field of the model, configuration of the run, |
|                      | SHA-256 of the other two files                                                 |
| completion.stablehlo | what `serialize_completion` returns                                            |

The names of tensors are explained in tensors.py.
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

from ifanp_jax import files
from ifanp_jax.errors import UserError, first_line
from ifanp_jax.inference import predict, tensors
from ifanp_jax.inference.limits import DEFAULT_LIMITS
from ifanp_jax.inference.model import Model
from ifanp_jax.version import __version__

FORMAT = 1
CONFIG_FILE = "config.json"
TENSORS_FILE = "model.safetensors"
PROGRAM_FILE = "completion.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def write(model: Model, output: str | pathlib.Path, *, num_samples: int) -> None:
    """Exports a model; the folder appears once it is whole.

    Args:
      model: trained.
      output: a new or empty folder.
      num_samples: S of the program in `completion.stablehlo`.

    Raises:
      UserError: when the folder is not empty or cannot be made, or `serialize_completion` refuses S.
    """
    output = pathlib.Path(output).expanduser().resolve()
    _check_output(output)
    variables = jax.device_get(model.variables)
    contents = {
        PROGRAM_FILE: serialize_completion(
            model.module, variables, model.image_shape, num_samples=num_samples
        ),
        TENSORS_FILE: tensors.save(variables),
    }
    record = {
        "format": FORMAT,
        "version": __version__,
        "step": model.step,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "model": {"name": model.config.model.name, **_list_fields(model.module)},
        "completion": {"num_samples": num_samples, "platforms": PLATFORMS, "jax": jax.__version__},
        **tensors.make_record(model.config, model.image_shape),
    }
    contents[CONFIG_FILE] = (json.dumps(record, indent=2) + "\n").encode()
    unfinished = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        unfinished.mkdir(parents=True)
        for name, content in contents.items():
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
    standard deviation; float32 (S, B, H, W, C) each. They are those of `Model.complete` with one
    round and the same seed and S: the draws come from `jax.random.fold_in(jax.random.key(seed), 0)`.

    Args:
      model: Flax module with the verb `complete`.
      variables: its parameters and other collections.
      image_shape: (H, W, C).
      num_samples: S.

    Returns:
      What `jax.export.deserialize` reads.

    Raises:
      UserError: when S is below 1, or more than `Model.complete` draws from one key.
    """
    h, w, c = image_shape
    most = max(1, DEFAULT_LIMITS.positions_at_once // (h * w))
    if not 1 <= num_samples <= most:
        raise UserError(
            f"num_samples is {num_samples}; a program for images of {h}x{w} pixels draws from 1 to {most}."
        )

    def complete(seed, image, mask):
        key = jax.random.fold_in(jax.random.key(seed), 0)
        completion = predict.complete_batch(key, model, variables, image, mask, num_samples=num_samples)
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


def read(path: pathlib.Path) -> Model:
    """Reads `config.json` and `model.safetensors` of an exported model.

    It answers as that of the working directory does, bit for bit.

    Args:
      path: the folder.

    Raises:
      UserError: when a file is missing or damaged, is of another format, or the two do not fit each other.
    """
    record = _read_record(path / CONFIG_FILE)
    _check_sum(path / TENSORS_FILE, record["sha256"])
    return tensors.read_model(
        path / TENSORS_FILE,
        record,
        description=str(path / CONFIG_FILE),
        advice="export the run again",
    )


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
        raise UserError(
            f"{path} is not of this package; give what --mode=export wrote, or the folder of a training."
        )
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
        found = files.hash_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; the export is not whole: export the run again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); export the run again.") from None
    if not isinstance(expected, dict) or found != expected.get(path.name):
        raise UserError(
            f"{path} is damaged: its SHA-256 is not the one in {CONFIG_FILE} beside it; export the run again."
        )
