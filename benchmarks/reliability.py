"""What reliability costs: saves, signals, kills and long runs, measured on real processes.

    python -m benchmarks reliability --config=configs/digits_ifanp.py --output=reliability.json

Every figure but the first is of `python -m ifanp_jax.main` with the same configuration, in processes of its
own and temporary folders. Memory growth is of 5,000 steps of that configuration.
"""

import logging
import os
import pathlib
import platform
import re
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from benchmarks.processes import Trainings, last_step, resident_bytes
from ifanp_jax.data import sources
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import tables
from ifanp_jax.inference import tensors
from ifanp_jax.runtime import signals
from ifanp_jax.training import runs

logger = logging.getLogger(__name__)

NUM_SAVES = 7
NUM_RUNS = 3  # of each kind of process; medians are told
GROWTH_STEPS, WARM_UP_STEPS = 5000, 1000
NUM_SIZES = 100  # times that the memory is looked at
HEAD = ("what", "value")


def run(config: ConfigDict, arguments: list[str]) -> dict:
    """Measures everything.

    Args:
      config: from `inputs.prepare`.
      arguments: of the command line that made `config`; the processes get them too.

    Returns:
      What `--output` holds; the table is `list_lines` of it.
    """
    result = {"config": config.to_dict(), "python": platform.python_version(), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with signals.deferred(), Trainings(arguments) as trainings:
            result["start"] = measure_starts(trainings, folder)
            logger.info("Measured the starts.")
            result["interruption"] = measure_interruptions(trainings, folder)
            logger.info("Measured signals and kills.")
            result["growth"] = measure_growth(trainings, folder / "growth")
        # Last: from here on the accelerator is this process's.
        result["save"] = measure_saves(config, sources.load(config.data).train.shape[1:], folder / "saves")
    return result | {"device": jax.devices()[0].device_kind, "jax": jax.__version__}


def list_config_flags(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command line that make its configuration, `--config` and `--config.*`."""
    found = []
    for argument, value in zip(arguments, (*arguments[1:], ""), strict=True):
        name, has_value, _ = argument.partition("=")
        if name.lstrip("-").partition(".")[0] == "config" and argument.startswith("-"):
            found += [argument] if has_value else [argument, value]
    return found


def measure_saves(config: ConfigDict, image_shape: tuple[int, int, int], workdir: pathlib.Path) -> dict:
    """Milliseconds that a save keeps the training waiting, and until it is on disk; its size in bytes.

    Args:
      config: from `inputs.prepare`.
      image_shape: (H, W, C).
      workdir: a new folder.
    """
    new = runs.make(config, image_shape)
    state = jax.block_until_ready(jax.jit(lambda key: new.step.init(key, image_shape))(jax.random.key(0)))
    record = tensors.make_record(config, image_shape)
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


def measure_starts(trainings: Trainings, folder: pathlib.Path) -> dict:
    """Seconds from the start of a process to the end of its first step, without and with compiled programs.

    Args:
      trainings: that start processes.
      folder: for the runs.
    """
    seconds = {"filling": [], "cold": [], "warm": []}
    for index in range(NUM_RUNS + 1):
        for name in ("warm" if index else "filling", *(("cold",) if index < NUM_RUNS else ())):
            cache = () if name == "cold" else (_cache_flag(folder),)
            process, took = trainings.start(folder / f"{name}_{index}", *cache)
            trainings.end(process, signal.SIGKILL)
            seconds[name].append(took)
    return {f"{name}_seconds": statistics.median(seconds[name]) for name in ("cold", "warm")}


def measure_interruptions(trainings: Trainings, folder: pathlib.Path) -> dict:
    """Seconds from SIGTERM to the exit, and from a kill to the first step that is new.

    The killed run is started again at once, with compiled programs kept; it does again what it had done since
    its last checkpoint, on average half of `train.checkpoint_every`.

    Args:
      trainings: that start processes.
      folder: for the runs.
    """
    exits = [_time_exit(trainings, folder / f"terminated_{index}") for index in range(NUM_RUNS)]
    killed = [_time_recovery(trainings, folder / f"killed_{index}") for index in range(NUM_RUNS)]
    recoveries = [seconds for seconds, _ in killed]
    return {
        "sigterm_to_exit_seconds": statistics.median(exits),
        "sigterm_to_exit_seconds_range": [min(exits), max(exits)],
        "kill_to_new_step_seconds": statistics.median(recoveries),
        "kill_to_new_step_seconds_range": [min(recoveries), max(recoveries)],
        "steps_done_again": [lost for _, lost in killed],
    }


def _time_exit(trainings, workdir):
    process, _ = trainings.start(workdir, _cache_flag(workdir.parent))
    time.sleep(2)
    started = time.monotonic()
    status = trainings.end(process, signal.SIGTERM)
    if status != 143:
        raise UserError(f"After SIGTERM the exit status was {status}, not 143.")
    return time.monotonic() - started


def _time_recovery(trainings, workdir):
    """Seconds from the kill to the first new step, and the steps that were done again."""
    flags = (_cache_flag(workdir.parent), "--config.train.checkpoint_every=50")
    process, _ = trainings.start(workdir, *flags)
    trainings.wait(process, workdir, lambda: list(workdir.glob("checkpoints/step_*")))
    time.sleep(1)
    killed_at = last_step(workdir)
    started = time.monotonic()
    trainings.end(process, signal.SIGKILL)
    process, _ = trainings.start(workdir, *flags)
    _wait_for_step(trainings, process, workdir, killed_at + 1)
    seconds = time.monotonic() - started
    resumed_at = int(re.search(r"Resumed .* at step (\d+)", trainings.read_log(workdir))[1])
    trainings.end(process, signal.SIGKILL)
    return seconds, killed_at - resumed_at


def _wait_for_step(trainings, process, workdir, step):
    trainings.wait(process, workdir, lambda: last_step(workdir) >= step)


def _cache_flag(folder):
    return f"--compilation_cache={folder / 'cache'}"


def measure_growth(trainings: Trainings, workdir: pathlib.Path) -> dict:
    """Resident memory of a training after `WARM_UP_STEPS` and after `GROWTH_STEPS` steps, in bytes.

    Args:
      trainings: that start processes.
      workdir: of the run.
    """
    process, _ = trainings.start(workdir)
    sizes = []
    for step in range(WARM_UP_STEPS, GROWTH_STEPS + 1, (GROWTH_STEPS - WARM_UP_STEPS) // NUM_SIZES):
        _wait_for_step(trainings, process, workdir, step)
        sizes.append(resident_bytes(process.pid))
    trainings.end(process, signal.SIGKILL)
    share = len(sizes) // 10
    first, last = statistics.median(sizes[:share]), statistics.median(sizes[-share:])
    return {
        "num_steps": GROWTH_STEPS,
        "after_warm_up_bytes": first,
        "at_the_end_bytes": last,
        "growth": last / first - 1,
    }


def list_lines(result: dict) -> list[str]:
    """The lines of the table in Markdown: what was measured, and the value.

    Args:
      result: of `run`.
    """
    save, start, signals, growth = (result[name] for name in ("save", "start", "interruption", "growth"))
    low, high = save["blocking_milliseconds_range"]
    rows = [
        (
            f"a save of {save['bytes'] / 2**20:.1f} MiB keeps the training waiting",
            f"{save['blocking_milliseconds']:.0f} ms ({low:.0f} to {high:.0f})",
        ),
        ("until it is on disk, with checksums", f"{save['on_disk_milliseconds']:.0f} ms"),
        ("start of the process to the first step, cold", f"{start['cold_seconds']:.1f} s"),
        ("the same with `--compilation_cache`", f"{start['warm_seconds']:.1f} s"),
        ("SIGTERM to the exit, the step saved", f"{signals['sigterm_to_exit_seconds']:.2f} s"),
        (
            "kill -9 to the first new step, started again at once with `--compilation_cache`",
            f"{signals['kill_to_new_step_seconds']:.1f} s",
        ),
        (
            f"growth of memory from step {WARM_UP_STEPS:,} to {growth['num_steps']:,}",
            f"{growth['growth']:+.1%} of {growth['after_warm_up_bytes'] / 2**20:,.0f} MiB",
        ),
    ]
    return tables.markdown_table(HEAD, rows)
