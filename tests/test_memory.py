"""How much memory there is, and how much a process took."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from ifanp_jax import memory


def test_a_limit_of_the_container_counts(tmp_path, monkeypatch):
    whole = memory.machine_bytes()
    monkeypatch.setattr(memory, "CGROUP_LIMIT", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("1048576\n")
    assert memory.machine_bytes() == 2**20 < whole
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.machine_bytes() >= whole


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").is_file(), reason="memory of others needs /proc")
def test_a_process_does_not_count_what_its_parent_holds():
    held = np.ones(2**28, np.uint8)
    assert memory.process_peak_bytes() > held.size
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        assert 0 < memory.process_peak_bytes(process=child.pid) < held.size
        child.communicate(b"\n")
