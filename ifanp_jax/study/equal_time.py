"""Equal time instead of equal steps: what a study gives each model where it has `study.minutes`."""

import logging
import math
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from ifanp_jax import training
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.study.one_run import config_of, run_dir
from ifanp_jax.training import runs

logger = logging.getLogger(__name__)

NUM_MEASURED = 12  # steps of the short training, behind the one that compiles


class StepClock:
    """Times every dispatch of a training; the first one compiles.

    Attributes:
      seconds: of each dispatch.
      seconds_per_step: of each.
    """

    def __init__(self, *, read_clock: Callable[[], float] = time.monotonic):
        """Starts without a dispatch; `read_clock` answers seconds."""
        self.read_clock, self.seconds, self.seconds_per_step = read_clock, [], []

    def wrap(self, train_steps: Callable) -> Callable:
        """`train_steps` that is timed, as `training.run` takes it by `wrap_steps`."""

        def timed_steps(state, images, num_steps):
            started = self.read_clock()
            result = jax.block_until_ready(train_steps(state, images, num_steps))
            self.seconds.append(self.read_clock() - started)
            self.seconds_per_step.append(self.seconds[-1] / num_steps)
            return result

        return timed_steps


def num_steps_of(config: ConfigDict, workdir: str | pathlib.Path, name: str) -> int | None:
    """The steps of the runs of one model that have begun; None where none has and time decides."""
    if not config.study.get("minutes", 0):
        return config_of(config, name, 0).train.num_steps
    for seed in config.study.seeds:
        if (begun := runs.read(run_dir(workdir, name, seed))) is not None:
            return begun[0].train.num_steps
    return None


def count_steps(
    config: ConfigDict, dataset: Dataset, *, minutes: float, read_clock: Callable[[], float] | None = None
) -> int:
    """The steps that fit in a time, by a short training that is thrown away; at least 1.

    Compiling does not count.

    Args:
      config: of the run.
      dataset: of the run.
      minutes: of training.
      read_clock: answers seconds. None = on a CPU those of the processor, so that other programs beside it
        change little; on two cores a clock then shows about half of them. Elsewhere those of a clock.
    """
    if read_clock is None:
        read_clock = time.process_time if jax.default_backend() == "cpu" else time.monotonic
    clock = StepClock(read_clock=read_clock)
    short = config.copy_and_resolve_references()
    short.train.update(num_steps=NUM_MEASURED + 1, checkpoint_every=NUM_MEASURED + 1, steps_per_dispatch=1)
    short.train.init_from = ""  # a step takes as long from drawn parameters
    with tempfile.TemporaryDirectory() as folder:
        training.run(short, pathlib.Path(folder) / "run", dataset, wrap_steps=clock.wrap)
    per_step = statistics.median(clock.seconds_per_step[1:])
    num_steps = max(1, math.floor(60 * minutes / per_step))
    logger.info("%.1f ms a step: %d steps in %g minutes.", 1e3 * per_step, num_steps, minutes)
    return num_steps
