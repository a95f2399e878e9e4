"""Times and memory of compiled calls."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.inputs import Effort
from ifanp_jax import memory
from ifanp_jax.runtime import flops

MEBIBYTE = 2**20


def measure(function: Callable, *args: Any, effort: Effort) -> dict:
    """Compiles and times a function.

    Args:
      function: traceable; its arguments are kept.
      *args: arrays.
      effort: timed runs, after one or two that are not counted.

    Returns:
      `milliseconds` (median), `milliseconds_range`, `first_call_seconds`, `compile_seconds`, `temporary_mib`.
    """
    compiled, facts = compile_timed(jax.jit(function), *args)
    return time_calls(lambda state: compiled(*args), None, effort=effort) | facts


def compile_timed(function: Callable, *args: Any) -> tuple[Callable, dict]:
    """Compiles a jitted function: the program, its `compile_seconds` and its `temporary_mib`.

    Args:
      function: from `jax.jit`.
      *args: as it takes them.
    """
    started = time.monotonic()
    compiled = function.lower(*args).compile()
    seconds = time.monotonic() - started
    analysis = compiled.memory_analysis()
    temporary = analysis.temp_size_in_bytes / MEBIBYTE if analysis else float("nan")
    return compiled, {"compile_seconds": seconds, "temporary_mib": temporary}


def time_calls(call: Callable, state: Any, *, effort: Effort, num_steps: int = 1) -> dict:
    """Times `state = call(state)`, several calls a run where one is short.

    Args:
      call: compiled; it may donate the state.
      state: of the first call.
      effort: number and least length of the runs.
      num_steps: that one call does; times are told per step.
    """
    started = time.monotonic()
    state = jax.block_until_ready(call(state))
    first_seconds = second_seconds = time.monotonic() - started
    if first_seconds < 1:  # the first call of a GPU also loads the program
        started = time.monotonic()
        state = jax.block_until_ready(call(state))
        second_seconds = time.monotonic() - started
    repeats = max(1, round(effort.least_seconds / second_seconds))
    times = []
    for _ in range(effort.num_runs):
        started = time.monotonic()
        for _ in range(repeats):
            state = call(state)
        jax.block_until_ready(state)
        times.append((time.monotonic() - started) / repeats / num_steps * 1e3)
    return summarise(times) | {"first_call_seconds": first_seconds}


def summarise(times: Sequence[float]) -> dict:
    """Median, fastest and slowest of times in milliseconds."""
    return {"milliseconds": statistics.median(times), "milliseconds_range": [min(times), max(times)]}


def measure_gemm(dtype: str, *, size: int, effort: Effort) -> dict:
    """The rate of one large square matrix product: what the device's best is taken to be.

    Args:
      dtype: of the product.
      size: rows.
      effort: of the timing.
    """
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    entry = measure(jnp.matmul, matrix, matrix, effort=effort)
    return entry | {"size": size, "gflops_per_second": 2 * size**3 / entry["milliseconds"] / 1e6}


def measure_part(function: Callable, inputs: Sequence[Any], *, gemm_rate: float, effort: Effort) -> dict:
    """Times a function forward, and with its gradients by `inputs`.

    Args:
      function: of `inputs`.
      inputs: trees of float arrays.
      gemm_rate: GFLOP/s.
      effort: of the timing.
    """
    both = with_gradient(function)
    cotangent = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), jax.eval_shape(function, *inputs))
    forward = measure(function, *inputs, effort=effort)
    entry = measure(both, cotangent, *inputs, effort=effort)
    num_flops = flops.count(both, cotangent, *inputs)
    return {
        **entry,
        "forward_milliseconds": forward["milliseconds"],
        "mflops_per_step": num_flops / 1e6,
        "gemm_share": num_flops / entry["milliseconds"] / 1e6 / gemm_rate,
    }


def with_gradient(function: Callable) -> Callable:
    """Returns `call(cotangent, *inputs)`: the function's answer and its gradients by `inputs`."""

    def call(cotangent, *inputs):
        out, pullback = jax.vjp(function, *inputs)
        return out, pullback(cotangent)

    return call


def peak_mib() -> float:
    """Most memory used so far: of the device, or on a CPU of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / MEBIBYTE
    return memory.process_peak_bytes() / MEBIBYTE
