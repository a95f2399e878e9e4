import os
import subprocess
import sys

import pytest

from ifanp_jax.runtime import cores
from tests.helpers import ROOT

COUNT = """
import jax
import numpy as np
from ifanp_jax.runtime import device_mesh
device_mesh.initialize()
mesh = device_mesh.make_mesh()
numbers = device_mesh.put_rows(np.arange(12), mesh)
total = jax.jit(lambda x: x.sum(), out_shardings=device_mesh.replicated(mesh))(numbers)
assert total == 66  # XLA knows the flags for devices that wait for each other
print(jax.device_count())
"""


def count_devices(**environment):
    names = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    environ = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", COUNT]
    environ |= {"JAX_PLATFORMS": "cpu"} | environment
    answer = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    return int(answer.stdout)


def test_a_process_that_works_alone_has_a_device_for_each_core():
    assert count_devices() == min(cores.count_cores(), cores.MAX_DEVICES)


@pytest.mark.parametrize(
    "environment",
    [{"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, {"JAX_NUM_CPU_DEVICES": "3"}],
)
def test_the_environment_may_say_how_many(environment):
    assert count_devices(**environment) == 3


@pytest.mark.parametrize(("limit", "count"), [("max 100000", 6), ("150000 100000", 2), ("900000 100000", 6)])
def test_cores_are_those_of_the_affinity_and_of_the_container(limit, count, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr(cores, "CGROUP_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    assert cores.count_cores() == count
