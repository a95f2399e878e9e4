"""Throughput, memory and the cost of the parts.

    python -m benchmarks --config=configs/celeba_ifanp.py --output=benchmark.json

Nothing is read but the configuration: the images are random bytes. Each time is the median over several runs
of a compiled call, with the fastest and the slowest beside it; compilation is told apart. Ratios are
alternative / ours, so larger is better. FLOPs are analytic (`flops.count`), and their share is of the rate
that one large matrix product reaches on the same device in the same run.
"""

import dataclasses
import logging
import os
import pathlib
import platform
import time

import jax
from ml_collections import ConfigDict

from benchmarks import attention, inputs, parts, pictures, probes, rivals, step_speed, timing
from ifanp_jax.errors import UserError
from ifanp_jax.inference import predict
from ifanp_jax.training import runs

logger = logging.getLogger(__name__)

GEMM_RUNS = 3  # times the timed runs of another function


def run(
    config: ConfigDict,
    image_shape: tuple[int, int, int],
    *,
    sections: tuple[str, ...] = (),
    effort: inputs.Effort = inputs.FULL_EFFORT,
    gemm_size: int = 0,
) -> dict:
    """Measures what `sections` name.

    Args:
      config: from `inputs.prepare`.
      image_shape: (H, W, C) of the images.
      sections: names of SECTIONS; () = all.
      effort: how long and how large.
      gemm_size: rows of the matrix product; 0 = 2048 on a CPU, else 8192.

    Returns:
      What `--output` holds: facts of the machine, and one entry per section.
    """
    if jax.process_count() > 1:
        raise UserError("The benchmark measures one process; start it on one machine alone.")
    new = runs.make(config, image_shape)
    gemm = timing.measure_gemm(
        _dtype(new),
        size=gemm_size or (2048 if jax.default_backend() == "cpu" else 8192),
        effort=dataclasses.replace(effort, num_runs=GEMM_RUNS * effort.num_runs),
    )
    logger.info("GEMM: %.0f GFLOP/s in %s.", gemm["gflops_per_second"], _dtype(new))
    result = describe(new) | {"gemm": gemm}
    case = inputs.Case(run=new, gemm_rate=gemm["gflops_per_second"], effort=effort)
    for name in sections or SECTIONS:
        started = time.monotonic()
        result[name] = SECTIONS[name](case)
        logger.info("%s: measured in %.0f s.", name, time.monotonic() - started)
    return result


def describe(run: runs.Run) -> dict:
    """What every figure must be read with: device, dtype, batch, steps per dispatch, versions.

    Args:
      run: that has not begun.
    """
    config, device = run.config, jax.devices()[0]
    name = device.device_kind
    if device.platform == "cpu":
        name = f"{cpu_name()}, {os.cpu_count()} cores"
    return {
        "device": name,
        "platform": device.platform,
        "num_devices": jax.device_count(),
        "dtype": _dtype(run),
        "model": config.model.name,
        "protocol": config.protocol,
        "width": config.model.get("width", config.model.get("widths")),
        "image_shape": list(run.image_shape),
        "batch_size": config.train.batch_size,
        "steps_per_dispatch": inputs.count_steps_per_dispatch(run),
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def _dtype(run):
    return run.config.model.get("compute_dtype", "float32")


def measure_completion(case: inputs.Case) -> dict:
    """Completion by S samples: the latency of one image, images per second in a batch, and whole pictures."""
    run, num_samples = case.run, case.run.config.evaluate.num_samples
    state = jax.jit(lambda key: run.step.init(key, run.image_shape))(jax.random.key(run.config.seed))
    variables = run.step.variables(state)

    def complete(key, image, mask):
        return predict.complete_batch(key, run.module, variables, image, mask, num_samples=num_samples)

    entries = {}
    for name, size in (("one_image", 1), ("batch", run.config.train.batch_size)):
        batch = inputs.random_batch(size, run.image_shape)
        entry = timing.measure(complete, jax.random.key(0), batch.image, batch.mask, effort=case.effort)
        entry |= {"batch_size": size, "num_samples": num_samples}
        entries[name] = entry | {"images_per_second": size / entry["milliseconds"] * 1e3}
    return entries | {"pictures": pictures.measure_pictures(case)}


def cpu_name() -> str:
    """What the processor is called."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "CPU"


SECTIONS = {
    "training": step_speed.measure_training,
    "parts": parts.measure_parts,
    "gca": rivals.measure_gca,
    "lpa": rivals.measure_lpa,
    "attention": attention.measure_attention,
    "completion": measure_completion,
    "scaling": step_speed.measure_scaling,
    "devices": probes.measure_devices,
    "start": probes.measure_start,
}
