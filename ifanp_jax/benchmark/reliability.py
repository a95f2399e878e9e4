"""What reliability costs: saves, signals, kills and long runs, measured on real processes.

    python -m ifanp_jax.benchmark_reliability --config=configs/digits_ifanp.py --output=reliability.json

Every figure but the first is of `python -m ifanp_jax.main` with the same configuration, in processes of its
own and temporary folders. Memory growth is of 5,000 steps of that configuration.
"""

import contextlib
import json
import logging
import os
import pathlib
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import jax
from absl import flags
from ml_collections import ConfigDict

from ifanp_jax import configuration, files
from ifanp_jax.data import sources
from ifanp_jax.errors import UserError
from ifanp_jax.runtime import command_line, interruption
from ifanp_jax.training import metrics_file, runs

logger = logging.getLogger(__name__)

NUM_SAVES = 7
NUM_RUNS = 3  # of each kind of process; medians are told
GROWTH_STEPS, WARM_UP_STEPS = 5000, 1000
NUM_SIZES = 100  # times that the memory is looked at
ENDLESS = 10**6  # steps: these runs are ended from outside
LOOK_EVERY_SECONDS = 0.005

_started = []  # processes, so that none is left behind


def run(config: ConfigDict, arguments: list[str]) -> dict:
    """Measures everything.

    Args:
      config: as in `configs/default.py`.
      arguments: of the command line that made `config`; the processes get them too.

    Returns:
      What `--output` holds; the table is `list_rows` of it.
    """
    result = {"config": config.to_dict(), "python": platform.python_version(), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with interruption.deferred(), _ending_processes():
            result["start"] = measure_starts(arguments, folder)
            logger.info("Measured the starts.")
            result["interruption"] = measure_interruptions(arguments, folder)
            logger.info("Measured signals and kills.")
            result["growth"] = measure_growth(arguments, folder / "growth")
        # Last: from here on the accelerator is this process's.
        result["save"] = measure_saves(config, sources.get(config.data).train.shape[1:], folder / "saves")
    return result | {"device": jax.devices()[0].device_kind, "jax": jax.__version__}


def measure_saves(config: ConfigDict, image_shape: tuple[int, int, int], workdir: pathlib.Path) -> dict:
    """Milliseconds that a save keeps the training waiting, and until it is on disk; its size in bytes.

    Args:
      config: as in `configs/default.py`.
      image_shape: (H, W, C).
      workdir: a new folder.
    """
    _, _, init = runs.make_model(config, image_shape)
    state = jax.block_until_ready(jax.jit(init)(jax.random.key(0)))
    record = runs.make_record(config, image_shape)
    blocking, whole = [], []
    with runs.open_checkpoints(workdir, config, is_writer=True) as checkpoints:
        for step in range(NUM_SAVES + 1):
            started = time.monotonic()
            checkpoints.save(step, state, record)
            blocking.append((time.monotonic() - started) * 1e3)
            checkpoints.wait()
            whole.append((time.monotonic() - started) * 1e3)
    newest = workdir / "checkpoints" / f"step_{NUM_SAVES}"
    return {
        "blocking_milliseconds": statistics.median(blocking[1:]),  # the first one also imports
        "blocking_milliseconds_range": [min(blocking[1:]), max(blocking[1:])],
        "on_disk_milliseconds": statistics.median(whole[1:]),
        "bytes": sum(path.stat().st_size for path in newest.rglob("*") if path.is_file()),
    }


def measure_starts(arguments: list[str], folder: pathlib.Path) -> dict:
    """Seconds from the start of a process to the end of its first step, without and with compiled programs.

    Args:
      arguments: of the command line.
      folder: for the runs.
    """
    cache = f"--compilation_cache={folder / 'cache'}"
    seconds = {"cold": [], "warm": []}
    for index in range(NUM_RUNS + 1):
        name = "warm" if index else "filling"
        process, took = _start(arguments, folder / f"{name}_{index}", cache)
        _end(process, signal.SIGKILL)
        seconds.setdefault(name, []).append(took)
        if index < NUM_RUNS:
            process, took = _start(arguments, folder / f"cold_{index}")
            _end(process, signal.SIGKILL)
            seconds["cold"].append(took)
    return {f"{name}_seconds": statistics.median(seconds[name]) for name in ("cold", "warm")}


def measure_interruptions(arguments: list[str], folder: pathlib.Path) -> dict:
    """Seconds from SIGTERM to the exit, and from a kill to the first step that is new.

    The killed run is started again at once, with compiled programs kept; it does again what it had done since
    its last checkpoint, on average half of `train.checkpoint_every`.

    Args:
      arguments: of the command line.
      folder: for the runs.
    """
    cache = f"--compilation_cache={folder / 'cache'}"
    exits, recoveries, lost = [], [], []
    for index in range(NUM_RUNS):
        process, _ = _start(arguments, folder / f"terminated_{index}", cache)
        time.sleep(2)
        started = time.monotonic()
        status = _end(process, signal.SIGTERM)
        exits.append(time.monotonic() - started)
        if status != 143:
            raise UserError(f"After SIGTERM the exit status was {status}, not 143.")

        workdir = folder / f"killed_{index}"
        process, _ = _start(arguments, workdir, cache, "--config.train.checkpoint_every=50")
        _wait(process, workdir, lambda: list(workdir.glob("checkpoints/step_*")))  # noqa: B023
        time.sleep(1)
        killed_at = _last_step(workdir)
        started = time.monotonic()
        _end(process, signal.SIGKILL)
        process, _ = _start(arguments, workdir, cache, "--config.train.checkpoint_every=50")
        _wait(process, workdir, lambda: _last_step(workdir) > killed_at)  # noqa: B023
        recoveries.append(time.monotonic() - started)
        resumed_at = int(re.search(r"Resumed .* at step (\d+)", _log_of(workdir).read_text())[1])
        lost.append(killed_at - resumed_at)
        _end(process, signal.SIGKILL)
    return {
        "sigterm_to_exit_seconds": statistics.median(exits),
        "sigterm_to_exit_seconds_range": [min(exits), max(exits)],
        "kill_to_new_step_seconds": statistics.median(recoveries),
        "kill_to_new_step_seconds_range": [min(recoveries), max(recoveries)],
        "steps_done_again": lost,
    }


def measure_growth(arguments: list[str], workdir: pathlib.Path) -> dict:
    """Resident memory of a training after `WARM_UP_STEPS` and after `GROWTH_STEPS` steps, in bytes.

    Args:
      arguments: of the command line.
      workdir: of the run.
    """
    process, _ = _start(arguments, workdir)
    sizes = []
    for step in range(WARM_UP_STEPS, GROWTH_STEPS + 1, (GROWTH_STEPS - WARM_UP_STEPS) // NUM_SIZES):
        _wait(process, workdir, lambda: _last_step(workdir) >= step)  # noqa: B023
        sizes.append(_resident_bytes(process.pid))
    _end(process, signal.SIGKILL)
    share = len(sizes) // 10
    first, last = statistics.median(sizes[:share]), statistics.median(sizes[-share:])
    return {
        "num_steps": GROWTH_STEPS,
        "after_warm_up_bytes": first,
        "at_the_end_bytes": last,
        "growth": last / first - 1,
    }


def list_rows(result: dict) -> list[tuple[str, str]]:
    """The table: what was measured, and the value."""
    save, start, interruption, growth = (result[name] for name in ("save", "start", "interruption", "growth"))
    low, high = save["blocking_milliseconds_range"]
    return [
        (
            f"a save of {save['bytes'] / 2**20:.1f} MiB keeps the training waiting",
            f"{save['blocking_milliseconds']:.0f} ms ({low:.0f} to {high:.0f})",
        ),
        ("until it is on disk, with checksums", f"{save['on_disk_milliseconds']:.0f} ms"),
        ("start of the process to the first step, cold", f"{start['cold_seconds']:.1f} s"),
        ("the same with `--compilation_cache`", f"{start['warm_seconds']:.1f} s"),
        ("SIGTERM to the exit, the step saved", f"{interruption['sigterm_to_exit_seconds']:.2f} s"),
        (
            "kill -9 to the first new step, started again at once with `--compilation_cache`",
            f"{interruption['kill_to_new_step_seconds']:.1f} s",
        ),
        (
            f"growth of memory from step {WARM_UP_STEPS:,} to {growth['num_steps']:,}",
            f"{growth['growth']:+.1%} of {growth['after_warm_up_bytes'] / 2**20:,.0f} MiB",
        ),
    ]


@contextlib.contextmanager
def _ending_processes():
    try:
        yield
    finally:
        for process in _started:
            process.kill()
            process.wait()


def _log_of(workdir):
    return workdir.with_name(f"{workdir.name}.txt")


def _start(arguments, workdir, *more):
    """Starts a training without end and waits for its first step; the process, and the seconds it took."""
    command = [sys.executable, "-m", "ifanp_jax.main", *arguments, f"--workdir={workdir}"]
    command += [f"--config.train.num_steps={ENDLESS}", "--config.train.log_every=1", *more]
    started = time.monotonic()
    log = _log_of(workdir)
    with log.open("w") as file:
        # A start is cold unless --compilation_cache says otherwise.
        environ = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environ)
    _started.append(process)
    _wait(process, workdir, lambda: "Compiled and first" in log.read_text())
    return process, time.monotonic() - started


def _wait(process, workdir, is_reached):
    while not is_reached():
        if interruption.received():
            raise SystemExit(interruption.exit_status(interruption.received()))
        if process.poll() is not None:
            lines = _log_of(workdir).read_text().strip().splitlines() or ["it said nothing"]
            raise UserError(f"A training ended by itself: {lines[-1]}")
        time.sleep(LOOK_EVERY_SECONDS)


def _end(process, number):
    process.send_signal(number)
    return process.wait()


def _last_step(workdir):
    path = workdir / metrics_file.METRICS_FILE
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        steps = re.findall(rb'"step": (\d+)', file.read())
    return int(steps[-1]) if steps else 0


def _resident_bytes(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _define_flags():
    return {"output": flags.DEFINE_string("output", "", "File for all numbers, as JSON.")}


def _main(given):
    config = command_line.get_config()
    if config is None:
        raise UserError("--config is missing; give a file such as configs/digits_ifanp.py.")
    configuration.check(config)
    output = pathlib.Path(given["output"].value) if given["output"].value else None
    if output and not output.absolute().parent.is_dir():
        raise UserError(f"--output={output} lies in no folder that exists; make {output.parent} first.")
    arguments = [argument for argument in sys.argv[1:] if argument.startswith(("--config=", "--config."))]
    result = run(config, arguments)
    print("| what | value |", "|---|---|", sep="\n")
    for row in list_rows(result):
        print("| " + " | ".join(row) + " |")
    if output:
        files.write_whole(output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    GIVEN = _define_flags()
    command_line.run(lambda: _main(GIVEN))
