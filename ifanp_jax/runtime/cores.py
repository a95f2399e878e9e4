"""CPU devices: one for each core, so that they share a batch.

XLA computes a convolution of few channels, and many small operations, on one core of however many there are.
"""

import math
import os
import pathlib

import jax

MAX_DEVICES = 8  # each holds all parameters, and all meet at every step
# Devices wait for each other. XLA ends the process after a minute of it, which a busy core can take in a long
# step, and complains after 20 s, as when the machine was asleep.
PATIENCE = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=3600 "
    "--xla_cpu_collective_call_terminate_timeout_seconds=86400"
)
CGROUP_LIMIT = pathlib.Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds, or "max", and a period


def count_cores() -> int:
    """Cores that this process may use: its affinity, and the share of its container."""
    allowed = getattr(os, "sched_getaffinity", None)
    count = len(allowed(0)) if allowed else os.cpu_count() or 1
    if CGROUP_LIMIT.is_file():
        quota, period = CGROUP_LIMIT.read_text().split()
        if quota != "max":
            count = min(count, math.ceil(int(quota) / int(period)))
    return count


def make_devices() -> None:
    """Makes a CPU device of each core; call it before any other use of JAX.

    Does nothing where XLA_FLAGS or JAX_NUM_CPU_DEVICES says how many there are.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" in flags or jax.config.jax_num_cpu_devices > 0:
        return
    if "xla_cpu_collective_call" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {PATIENCE}".strip()
    jax.config.update("jax_num_cpu_devices", min(count_cores(), MAX_DEVICES))
