"""Operations and bytes of the training step and of its parts, and what two accelerators could make of them.

    python -m benchmarks roofline --config=configs/celeba_ifanp.py --config.train.batch_size=512

Nothing is run. The step is traced as on an accelerator, compiled in float32 for the CPU, and XLA's cost
analysis of that program says its operations and the bytes that its instructions read and write: XLA's fusions
count once, caches count as nothing. In bfloat16 the maps have half of these bytes, and that is what the bound
of a device is made of:

    seconds >= max(operations / peak rate, bytes / 2 / memory rate)

| device | peak, bfloat16 | memory | source |
|---|---|---|---|
| H100 SXM | 989 TFLOP/s | 3.35 TB/s | NVIDIA H100 Tensor Core GPU datasheet (without sparsity) |
| TPU v5e | 197 TFLOP/s | 819 GB/s | Google Cloud documentation, "TPU v5e", one chip |
"""

import dataclasses
import functools
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks import parts, speed
from ifanp_jax.data import sampling
from ifanp_jax.evaluation import tables
from ifanp_jax.runtime import flops
from ifanp_jax.training import runs


@dataclasses.dataclass(frozen=True)
class Device:
    """Public numbers of an accelerator.

    Attributes:
      name: of it.
      flops_per_second: of bfloat16 products.
      bytes_per_second: of its memory.
    """

    name: str
    flops_per_second: float
    bytes_per_second: float


DEVICES = (Device("H100", 989e12, 3.35e12), Device("v5e", 197e12, 819e9))
HEAD = ("part", "GFLOP", "GB", "FLOP per byte", *(f"{device.name}, ms" for device in DEVICES))


def run(config: ConfigDict, image_shape: tuple[int, int, int]) -> dict:
    """Counts every part of a step, forward and backward, and the whole.

    Args:
      config: from `inputs.prepare`; it is counted in float32.
      image_shape: (H, W, C).

    Returns:
      What `--output` holds: `rows` with `flops`, `products` (analytic), `bytes` and the bounds in
      milliseconds.
    """
    config = config.copy_and_resolve_references()
    if "compute_dtype" in config.model:
        config.model.compute_dtype = "float32"
    new = runs.make(config, image_shape)
    with mock.patch.object(jax, "default_backend", return_value="accelerator"):
        rows = [count(name, *call) for name, *call in [*_list_parts(new), _list_step(new)]]
    return speed.describe(new) | {"rows": rows}


def _list_parts(new) -> list[tuple]:
    """Name, function and the shapes of its inputs, of each part with its gradients."""
    found = []
    for name, function, values in parts.list_parts(new):
        out = jax.eval_shape(function, *values)
        cotangent = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), out)
        found.append((name, functools.partial(_with_gradient, function), cotangent, *values))
    return found


def _with_gradient(function, cotangent, *values):
    out, pullback = jax.vjp(function, *values)
    return out, pullback(cotangent)


def _list_step(new):
    b, (h, w, c) = new.config.train.batch_size, new.image_shape
    n = new.step.num_batches
    batches = sampling.Batch(
        image=jax.ShapeDtypeStruct((n, b, h, w, c), jnp.float32),
        mask=jax.ShapeDtypeStruct((n, b, h, w, 1), bool),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    return "whole step", new.step.update, key, runs.abstract_state(new), batches


def count(name: str, function: Callable, *args) -> dict:
    """Operations and bytes of one call, and each device's bound in milliseconds.

    Args:
      name: of the part.
      function: traceable.
      *args: arrays, or their shapes and dtypes.
    """
    cost = jax.jit(function).lower(*args).compile().cost_analysis()
    row = {
        "part": name,
        "flops": cost["flops"],
        "products": flops.count(function, *args),
        "bytes": cost["bytes accessed"],
    }
    for device in DEVICES:
        row[device.name] = bound(row["products"], row["bytes"] / 2, device)
    return row


def bound(num_flops: float, num_bytes: float, device: Device) -> dict:
    """The least milliseconds, and whether "products" or "memory" is the reason.

    Args:
      num_flops: of products and convolutions.
      num_bytes: read and written.
      device: of DEVICES.
    """
    products, memory = num_flops / device.flops_per_second, num_bytes / device.bytes_per_second
    reason = "products" if products > memory else "memory"
    return {"milliseconds": 1e3 * max(products, memory), "reason": reason}


def list_lines(result: dict) -> list[str]:
    """The lines of caption and table, in Markdown.

    Args:
      result: of `run`.
    """
    shape = "x".join(map(str, result["image_shape"]))
    ridges = ", ".join(f"{d.name} {d.flops_per_second / d.bytes_per_second:.0f}" for d in DEVICES)
    rows = []
    for row in result["rows"]:
        bounds = [f"{row[d.name]['milliseconds']:.3f} ({row[d.name]['reason']})" for d in DEVICES]
        intensity = row["products"] / (row["bytes"] / 2)
        numbers = (f"{row['products'] / 1e9:,.1f}", f"{row['bytes'] / 2 / 1e9:,.2f}", f"{intensity:,.0f}")
        rows.append((row["part"], *numbers, *bounds))
    caption = (
        f"{result['model']}, images {shape}, batch {result['batch_size']}, forward and backward: products "
        f"and convolutions, bytes in bfloat16. A device is bound by its memory below so many FLOP per byte: "
        f"{ridges}."
    )
    return [caption, "", *tables.markdown_table(HEAD, rows)]
