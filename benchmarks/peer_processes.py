"""Peers in processes of their own, each in the Python that has it: started, asked and ended."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

from ifanp_jax import memory
from ifanp_jax.errors import UserError

SCRIPTS = pathlib.Path(__file__).with_name("peer_scripts")
# What must be importable for a kind of peer, and how a user gets it.
NEEDS = {
    "ifanp_jax": "ifanp_jax",
    "torch": "torch",
    "dl4bi": "dl4bi",
    "opencv": "cv2",
    "classical": "skimage",
}
SCRIPT_OF = {"opencv": "classical"}
ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Peer:
    """One implementation of a task.

    Attributes:
      kind: of NEEDS.
    """

    name: str
    kind: str
    folder: pathlib.Path


def find_python(kind: str, pythons: tuple[str, ...]) -> str | None:
    """The first Python that has what a kind of peer needs, this one after those given; None without any.

    Raises:
      UserError: when one of them does not run.
    """
    is_ours = kind in ("ifanp_jax", "opencv", "classical")
    for python in [sys.executable] if is_ours else [*pythons, sys.executable]:
        code = f"import importlib.util as u, sys; sys.exit(u.find_spec({NEEDS[kind]!r}) is None)"
        try:
            process = subprocess.run([python, "-c", code], env=_environment(kind), check=False)
        except OSError as error:
            raise UserError(
                f"--peers_python={python} does not run ({error.strerror}); give the path of a Python such as "
                "/path/to/venv/bin/python."
            ) from None
        if process.returncode == 0:
            return python
    return None


def _environment(kind, cache=None):
    """Ours finds this package and, like every peer on JAX, keeps compiled programs in `cache`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if kind not in ("torch", "dl4bi"):
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    if cache is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
    return environment


class Worker:
    """A running peer; leaving the context ends it."""

    def __init__(self, peer: Peer, python: str, *, cache: pathlib.Path | None = None):
        """Starts it and waits for its first training step.

        Args:
          peer: what runs.
          python: that has what it needs.
          cache: folder for compiled programs.

        Raises:
          UserError: when it ends by itself.
        """
        self._errors = (peer.folder / f"{peer.kind}.txt").open("w+")
        command = [python, SCRIPTS / "worker.py", SCRIPT_OF.get(peer.kind, peer.kind), peer.folder]
        self._peer, started = peer, time.time()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(peer.kind, cache),
            text=True,
        )
        try:
            self.facts = self._read()
        except UserError:
            self.__exit__()
            raise
        self.facts["start_seconds"] = self.facts["finished"] - started

    def ask(self, command: str, *, seconds: float = 0.0) -> dict:
        """What it answers to a command of `peer_scripts/worker.py`, and the `peak_mib` of its memory.

        Args:
          command: "train", "complete" or "check".
          seconds: to take about.

        Raises:
          UserError: when it ends instead.
        """
        self._process.stdin.write(json.dumps({"do": command, "seconds": seconds}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self):
        line = self._process.stdout.readline()
        if line:
            peak = memory.process_peak_bytes(process=self._process.pid) / 2**20
            return json.loads(line) | {"peak_mib": peak}
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or [f"status {self._process.returncode}"]
        raise UserError(f"{self._peer.name} ended by itself: {lines[-1]}")

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception):
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
