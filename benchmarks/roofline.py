"""Operations and bytes of the training step and of its parts, and what two accelerators could make of them.

    python -m benchmarks roofline --config=configs/celeba_ifanp.py --config.train.batch_size=512

Nothing is run: the matrix products and convolutions of the step are read from its program. Each reads its
inputs and writes its result, in bfloat16; everything else is taken to be fused into them, so this is the
least that a device must do:

    seconds >= max(operations / peak rate, bytes / memory rate)

| device | peak, bfloat16 | memory | source |
|---|---|---|---|
| H100 SXM | 989 TFLOP/s | 3.35 TB/s | NVIDIA H100 Tensor Core GPU datasheet (without sparsity) |
| TPU v5e | 197 TFLOP/s | 819 GB/s | Google Cloud documentation, "TPU v5e", one chip |
"""

import dataclasses
import re
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ifanp_jax import benchmark
from ifanp_jax.data import sampling
from ifanp_jax.evaluation import tables
from ifanp_jax.runtime import flops
from ifanp_jax.training import runs


@dataclasses.dataclass(frozen=True)
class Device:
    """Public numbers of an accelerator."""

    name: str
    flops_per_second: float
    bytes_per_second: float


DEVICES = (Device("H100", 989e12, 3.35e12), Device("v5e", 197e12, 819e9))
HEAD = ("part", "GFLOP", "GB", "FLOP per byte", *(f"{device.name}, ms" for device in DEVICES))
BYTES_PER_VALUE = 2  # bfloat16
WHOLE, REST = "whole step", "optimiser and the rest"


def run(config: ConfigDict, image_shape: tuple[int, int, int]) -> dict:
    """Counts every part of a step, forward and backward, and the whole.

    Returns:
      What `--output` holds: `rows` with `flops`, `bytes` and the bounds in milliseconds.
    """
    new = runs.make(config, image_shape)
    parts = {}
    for product in list_products(new):
        parts.setdefault(part_of(product.scope, type(new.module).__name__), []).append(product)
    rest = {REST: parts.pop(REST)} if REST in parts else {}
    whole = {WHOLE: [product for products in (parts | rest).values() for product in products]}
    rows = [count(name, products) for name, products in (parts | rest | whole).items()]
    return benchmark.describe(new) | {"rows": rows}


def list_products(new: runs.Run) -> list[flops.Product]:
    """The products of one optimiser step of a training that has not begun."""
    n, b, (h, w, c) = new.step.num_batches, new.config.train.batch_size, new.image_shape
    batches = sampling.Batch(
        image=jax.ShapeDtypeStruct((n, b, h, w, c), jnp.float32),
        mask=jax.ShapeDtypeStruct((n, b, h, w, 1), bool),
    )
    return flops.list_products(new.step.update, jax.random.key(0), runs.abstract_state(new), batches)


def part_of(scope: str, model: str) -> str:
    """The part of the model that a scope lies in: "decoder" of "jvp(Model)/Model.decode/decoder/..."."""
    names = [name for name in scope.split("/") if name and not re.fullmatch(r"\w+\(.*\)", name)]
    return next((name for name in names if name.partition(".")[0] != model), REST)


def count(name: str, products: Iterable[flops.Product]) -> dict:
    """Operations and bytes of some products, and each device's bound."""
    num_flops = sum(product.flops for product in products)
    num_bytes = BYTES_PER_VALUE * sum(product.num_values for product in products)
    bounds = {device.name: bound(num_flops, num_bytes, device) for device in DEVICES}
    return {"part": name, "flops": num_flops, "bytes": num_bytes, **bounds}


def bound(num_flops: float, num_bytes: float, device: Device) -> dict:
    """The least milliseconds, and whether "products" or "memory" is the reason."""
    products, memory = num_flops / device.flops_per_second, num_bytes / device.bytes_per_second
    reason = "products" if products > memory else "memory"
    return {"milliseconds": 1e3 * max(products, memory), "reason": reason}


def list_lines(result: dict) -> list[str]:
    """The lines of caption and table, in Markdown, of a result of `run`."""
    shape = "x".join(map(str, result["image_shape"]))
    ridges = ", ".join(f"{d.name} {d.flops_per_second / d.bytes_per_second:.0f}" for d in DEVICES)
    rows = []
    for row in result["rows"]:
        numbers = (
            f"{row['flops'] / 1e9:,.1f}",
            f"{row['bytes'] / 1e9:,.2f}",
            f"{row['flops'] / row['bytes']:,.0f}",
        )
        bounds = [f"{row[d.name]['milliseconds']:.3f} ({row[d.name]['reason']})" for d in DEVICES]
        rows.append((row["part"], *numbers, *bounds))
    caption = (
        f"{result['model']}, images {shape}, batch {result['batch_size']}, forward and backward: products "
        f"and convolutions, bytes in bfloat16. A device is bound by its memory below so many FLOP per byte: "
        f"{ridges}."
    )
    return [caption, "", *tables.markdown_table(HEAD, rows)]
