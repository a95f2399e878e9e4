"""Rules of every script."""

import os
import subprocess

import pytest

from tests.launch.commands import LAUNCH, shellcheck

SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_parsed(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert os.access(path, os.X_OK) or path.name == "tpu_vm_worker.sh"  # that one is only sent


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path):
    shellcheck(path)


@pytest.mark.parametrize("name", ["local_processes.sh", "tpu_vm.sh"])
def test_help_is_the_text_at_the_top(fakes, name):
    status, output = fakes.run(LAUNCH / name, "--help")
    assert status == 0
    assert f"launch/{name} " in output
    assert "set -" not in output
