import os

from ifanp_jax.runtime import cores
from tests import helpers

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


def test_a_process_that_works_alone_has_a_device_for_each_core_or_as_the_environment_says(monkeypatch):
    for name in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for environment, count in (
        ({}, min(cores.count_cores(), cores.MAX_DEVICES)),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
    ):
        answer = helpers.run_python("-c", COUNT, **environment)
        assert answer.stdout == f"{count}\n", answer.stderr


def test_cores_are_those_of_the_affinity_and_of_the_container(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "CGROUP_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    for limit, count in (("max 100000", 6), ("150000 100000", 2), ("900000 100000", 6)):
        (tmp_path / "cpu.max").write_text(limit + "\n")
        assert cores.count_cores() == count
