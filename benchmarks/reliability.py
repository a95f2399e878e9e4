"""What reliability costs: a save, the start of a process, and the exit after SIGTERM.

    python -m benchmarks reliability --config=configs/digits_ifanp.py

Starts and exits are those of `python -m ifanp_jax.main` with the same configuration, in processes of their
own and temporary folders. That nothing is lost, and that memory does not grow, are tests.
"""

import logging
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from ifanp_jax import benchmark
from ifanp_jax.data import sources
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import tables
from ifanp_jax.runtime import signals
from ifanp_jax.training import runs

logger = logging.getLogger(__name__)

NUM_SAVES = 7
NUM_RUNS = 3  # of each kind of process; medians are told
ENDLESS = 10**6  # steps: these runs are ended from outside
LOOK_EVERY_SECONDS = 0.005


def run(config: ConfigDict, arguments: list[str]) -> dict:
    """Measures everything.

    Args:
      config: from `benchmark.prepare`.
      arguments: of the command line that made `config`; the processes get them too.

    Returns:
      What `--output` holds; the table is `list_lines` of it.
    """
    result = {"config": config.to_dict(), "machine": benchmark.cpu_name()}
    with tempfile.TemporaryDirectory() as name, signals.deferred():
        folder = pathlib.Path(name)
        result |= measure_processes(arguments, folder)
        # Last: from here on the accelerator is this process's.
        image_shape = sources.load(config.data).train.shape[1:]
        return result | measure_saves(runs.make(config, image_shape), folder / "saves")


def list_config_flags(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command line that make its configuration, `--config` and `--config.*`."""
    found = []
    for argument, value in zip(arguments, (*arguments[1:], ""), strict=True):
        name, has_value, _ = argument.partition("=")
        if name.lstrip("-").partition(".")[0] == "config" and argument.startswith("-"):
            found += [argument] if has_value else [argument, value]
    return found


def measure_saves(new: runs.Run, workdir: pathlib.Path) -> dict:
    """Milliseconds that a save keeps the training waiting, and until it is on disk; its size in bytes."""
    init = jax.jit(lambda key: new.step.init(key, new.image_shape))
    state = jax.block_until_ready(init(jax.random.key(0)))
    blocking, whole = [], []
    with runs.open_checkpoints(workdir, new.config, is_writer=True) as checkpoints:
        for step in range(NUM_SAVES + 1):
            started = time.monotonic()
            checkpoints.save(step, state, runs.make_record(new.config, new.image_shape))
            blocking.append((time.monotonic() - started) * 1e3)
            checkpoints.wait()
            whole.append((time.monotonic() - started) * 1e3)
    newest = workdir / "checkpoints" / f"step_{NUM_SAVES}"
    return {
        "save_blocking_milliseconds": statistics.median(blocking[1:]),  # the first one also imports
        "save_milliseconds": statistics.median(whole[1:]),
        "save_bytes": sum(path.stat().st_size for path in newest.rglob("*") if path.is_file()),
    }


def measure_processes(arguments: list[str], folder: pathlib.Path) -> dict:
    """Seconds to the first step, without and with compiled programs, and from SIGTERM to the exit."""
    cache = f"--compilation_cache={folder / 'cache'}"
    seconds = {"cold": [], "filling": [], "warm": [], "exit": []}
    for index in range(NUM_RUNS):
        for kind in ("cold", "warm" if index else "filling", "warm"):
            workdir = folder / f"{kind}_{index}_{len(seconds[kind])}"
            started, exited = time_run(arguments if kind == "cold" else [*arguments, cache], workdir)
            seconds[kind].append(started)
            seconds["exit"].append(exited)
        logger.info("Measured %d of %d starts and exits.", index + 1, NUM_RUNS)
    return {f"{kind}_seconds": statistics.median(seconds[kind]) for kind in ("cold", "warm", "exit")}


def time_run(arguments: list[str], workdir: pathlib.Path) -> tuple[float, float]:
    """Seconds from the start of a training to its first step, and from SIGTERM to its exit.

    Args:
      arguments: that make the configuration.
      workdir: of the run; its log lies beside it.

    Raises:
      UserError: when it ends by itself, or with another status.
      SystemExit: after a signal to this process; the training is killed then.
    """
    command = [sys.executable, "-m", "ifanp_jax.main", *arguments, f"--workdir={workdir}"]
    command += [f"--config.train.num_steps={ENDLESS}", "--config.train.log_every=1"]
    # A start is cold unless --compilation_cache says otherwise.
    environ = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    log = workdir.with_name(f"{workdir.name}.txt")
    started = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environ)
    try:
        _wait_for_first_step(process, log)
        first = time.monotonic()
        process.send_signal(signal.SIGTERM)
        if (status := process.wait()) != 128 + signal.SIGTERM:
            raise UserError(f"After SIGTERM the exit status was {status}, not {128 + signal.SIGTERM}.")
        return first - started, time.monotonic() - first
    finally:
        process.kill()
        process.wait()


def _wait_for_first_step(process, log):
    while "Compiled and first" not in log.read_text():
        if signals.received():
            raise SystemExit(signals.exit_status(signals.received()))
        if process.poll() is not None:
            lines = log.read_text().strip().splitlines() or ["it said nothing"]
            raise UserError(f"A training ended by itself: {lines[-1]}")
        time.sleep(LOOK_EVERY_SECONDS)


def list_lines(result: dict) -> list[str]:
    """The lines of the table in Markdown: what was measured, and the value."""
    size = f"{result['save_bytes'] / 2**20:.1f} MiB"
    rows = [
        (f"a save of {size} keeps the training waiting", f"{result['save_blocking_milliseconds']:.0f} ms"),
        ("until it is on disk, with checksums", f"{result['save_milliseconds']:.0f} ms"),
        ("start of the process to the first step, cold", f"{result['cold_seconds']:.1f} s"),
        ("the same with `--compilation_cache`", f"{result['warm_seconds']:.1f} s"),
        ("SIGTERM to the exit, the step saved", f"{result['exit_seconds']:.2f} s"),
    ]
    return tables.markdown_table(("what", "value"), rows)
