"""Trainings and measurements in processes of their own."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable

import ifanp_jax
from ifanp_jax.errors import UserError
from ifanp_jax.runtime import signals
from ifanp_jax.training import metrics_file

ENDLESS = 10**6  # steps: these runs are ended from outside
LOOK_EVERY_SECONDS = 0.005


def python_path() -> str:
    """PYTHONPATH of a process that is to find this package."""
    root = str(pathlib.Path(ifanp_jax.__file__).resolve().parents[1])
    return os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])


def run_alone(module: str, function: str, request: dict, **environment: str) -> dict:
    """What a function prints last, as JSON, in a new process.

    Args:
      module: of `benchmarks`.
      function: of that module; it takes the request as JSON.
      request: JSON values.
      **environment: variables of the process besides those of this one.

    Raises:
      UserError: when the process fails.
    """
    code = f"import sys; from benchmarks import {module}; {module}.{function}(sys.argv[1])"
    process = subprocess.run(
        [sys.executable, "-c", code, json.dumps(request)],
        env=os.environ | {"PYTHONPATH": python_path()} | environment,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"status {process.returncode}"]
        raise UserError(f"A measuring process failed: {lines[-1]}")
    return json.loads(process.stdout.splitlines()[-1])


class Trainings:
    """Starts trainings of one configuration; leaving the context kills those that still run."""

    def __init__(self, arguments: list[str]):
        """Takes the arguments of the command line that make the configuration."""
        self._arguments, self._started = arguments, []

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for process in self._started:
            process.kill()
            process.wait()

    def start(self, workdir: pathlib.Path, *more: str) -> tuple[subprocess.Popen, float]:
        """Starts a training without end and waits for its first step.

        Args:
          workdir: of the run; its log lies beside it.
          *more: arguments.

        Returns:
          The process, and the seconds it took.
        """
        command = [sys.executable, "-m", "ifanp_jax.main", *self._arguments, f"--workdir={workdir}"]
        command += [f"--config.train.num_steps={ENDLESS}", "--config.train.log_every=1", *more]
        # A start is cold unless --compilation_cache says otherwise.
        environ = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
        started = time.monotonic()
        with _log_of(workdir).open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environ)
        self._started.append(process)
        self.wait(process, workdir, lambda: "Compiled and first" in self.read_log(workdir))
        return process, time.monotonic() - started

    def wait(self, process: subprocess.Popen, workdir: pathlib.Path, is_reached: Callable) -> None:
        """Waits until `is_reached()`.

        Args:
          process: from `start`.
          workdir: of its run.
          is_reached: looks at what the run wrote.

        Raises:
          UserError: when the training ended by itself.
          SystemExit: after a signal to this process.
        """
        while not is_reached():
            if signals.received():
                raise SystemExit(signals.exit_status(signals.received()))
            if process.poll() is not None:
                lines = self.read_log(workdir).strip().splitlines() or ["it said nothing"]
                raise UserError(f"A training ended by itself: {lines[-1]}")
            time.sleep(LOOK_EVERY_SECONDS)

    def end(self, process: subprocess.Popen, number: int) -> int:
        """Sends a signal and waits for the exit status.

        Args:
          process: from `start`.
          number: of the signal.
        """
        process.send_signal(number)
        return process.wait()

    def read_log(self, workdir: pathlib.Path) -> str:
        """What the newest training of a working directory printed."""
        return _log_of(workdir).read_text()


def _log_of(workdir):
    return workdir.with_name(f"{workdir.name}.txt")


def last_step(workdir: pathlib.Path) -> int:
    """The newest step of which metrics are written; 0 without any."""
    path = workdir / metrics_file.METRICS_FILE
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        steps = re.findall(rb'"step": (\d+)', file.read())
    return int(steps[-1]) if steps else 0


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in use now, in bytes; needs Linux."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
