"""A trained model as two files that other programs read without this package.

| file                 | holds                                                                   |
|----------------------|-------------------------------------------------------------------------|
| model.safetensors    | the parameters, float32, and in its header all that is known: `store`   |
| completion.stablehlo | what `serialize_completion` returns; its SHA-256 stands in that header  |
"""

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

from ifanp_jax.errors import UserError
from ifanp_jax.inference import predict, store
from ifanp_jax.inference.model import Model
from ifanp_jax.inference.sizes import DEFAULT_LIMITS

PLATFORMS = ("cpu", "cuda", "tpu")


def write(model: Model, output: str | pathlib.Path, *, num_samples: int) -> None:
    """Exports a model into a new or empty folder, which appears once it is whole.

    Raises:
      UserError: when the folder is not empty or cannot be made, or `serialize_completion` refuses S.
    """
    output = pathlib.Path(output).expanduser().resolve()
    try:
        is_free = not output.exists() or not any(output.iterdir())
    except OSError as error:
        raise UserError(
            f"The output {output} cannot be used ({error.strerror}); name a new folder."
        ) from None
    if not is_free:
        raise UserError(f"The output {output} is not empty; name a new folder.")
    variables = jax.device_get(model.variables)
    program = serialize_completion(model.module, variables, model.image_shape, num_samples=num_samples)
    completion = {
        "num_samples": num_samples,
        "platforms": PLATFORMS,
        "jax": jax.__version__,
        "sha256": hashlib.sha256(program).hexdigest(),
    }
    # All fields of the module, and what its variant fixes: the ClassVars, which `dataclasses.fields` omits.
    names = [name for name in type(model.module).__dataclass_fields__ if name not in ("parent", "name")]
    fields = {"name": model.config.model.name} | {name: getattr(model.module, name) for name in names}
    about = {**model.about, "model": json.dumps(fields), "completion": json.dumps(completion)}
    contents = {store.PROGRAM_NAME: program, store.FILE_NAME: store.serialize(model, about=about)}
    # Write a folder of another name beside it, and rename it.
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
    module: nn.Module, variables: Any, image_shape: tuple[int, int, int], *, num_samples: int
) -> bytes:
    """Serializes `complete` as one StableHLO program for PLATFORMS, with the variables inside.

    `jax.export.deserialize` reads it. It takes `seed`, uint32 scalar; `image`, float32 (B, H, W, C) in
    [0, 1], any value where not observed; and `mask`, bool (B, H, W, 1), True = observed, for any B. It
    answers with the predicted means, not clipped, observed pixels as the model predicts them, and, where the
    model has one, the likelihood's standard deviation; float32 (S, B, H, W, C) each. They are those of
    `Model.complete` with one round and the same seed and S: the draws come from
    `jax.random.fold_in(jax.random.key(seed), 0)`.

    Raises:
      UserError: when S is below 1, or more than `Model.complete` draws from one key.
    """
    h, w, c = image_shape  # of the training
    most = max(1, DEFAULT_LIMITS.positions_at_once // (h * w))
    if not 1 <= num_samples <= most:
        raise UserError(
            f"num_samples is {num_samples}; a program for images of {h}x{w} pixels draws from 1 to {most}."
        )

    def complete(seed, image, mask):
        key = jax.random.fold_in(jax.random.key(seed), 0)
        completion = predict.complete_batch(key, module, variables, image, mask, num_samples=num_samples)
        return tuple(x for x in (completion.samples, completion.scale) if x is not None)

    # Any number of images is one program.
    (b,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(complete), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((), jnp.uint32),
        jax.ShapeDtypeStruct((b, h, w, c), jnp.float32),
        jax.ShapeDtypeStruct((b, h, w, 1), jnp.bool_),
    )
    return bytes(exported.serialize())
