"""Command lines in processes of their own, which tests interrupt and kill."""

import os
import re
import subprocess
import sys
import time

import pytest

from ifanp_jax.training import metrics_file
from tests import helpers

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
}
# Resumed = uninterrupted must hold for programs as users run them.
OPTIMISED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
PATIENCE = 600  # seconds until a test gives up; nothing is decided by how long things take


class Process:
    """A run of the command line; what it writes goes to a file, so that it never waits for a reader."""

    def __init__(self, workdir, *arguments, name="log", module="ifanp_jax.main", environment=OPTIMISED):
        self.workdir = workdir
        self.log = workdir.with_name(f"{workdir.name}_{name}.txt")
        command = ["-m", module, f"--workdir={workdir}", *arguments]
        command += [f"--compilation_cache={workdir.parent.parent / 'programs'}"]  # the tests start many
        with self.log.open("w") as log:
            self.popen = subprocess.Popen(
                [sys.executable, *command],
                cwd=helpers.ROOT,
                env=os.environ | ENVIRONMENT | environment,
                stdout=log,
                stderr=log,
            )

    @property
    def text(self):
        return self.log.read_text()

    def wait_until(self, is_reached):
        """Waits for `is_reached()`, or the end of the process."""
        end = time.monotonic() + PATIENCE
        while not is_reached() and self.popen.poll() is None:
            assert time.monotonic() < end, self.text
            time.sleep(0.002)
        return self

    def wait_for_text(self, text):
        return self.wait_until(lambda: text in self.text)

    def wait_for_row(self, step):
        path = self.workdir / metrics_file.METRICS_FILE

        def is_reached():
            steps = re.findall(r'"step": (\d+)', path.read_text()[-2000:]) if path.exists() else []
            return bool(steps) and int(steps[-1]) >= step

        return self.wait_until(is_reached)

    def send(self, number):
        assert self.popen.poll() is None, f"It ended before the signal.\n{self.text}"
        self.popen.send_signal(number)
        return self

    def end(self):
        """The exit status."""
        try:
            return self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            pytest.fail(f"It hangs.\n{self.text}")


def make_starter(*fixed):
    """A fixture's generator: yields `start(workdir, ...)`, whose processes end with the test in any case.

    `fixed` are arguments of every one of them.
    """
    processes = []

    def start(workdir, *arguments, **options):
        processes.append(Process(workdir, *fixed, *arguments, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.popen.kill()
        process.popen.wait()


def list_steps(workdir):
    return sorted(int(path.name.removeprefix("step_")) for path in (workdir / "checkpoints").glob("step_*"))
