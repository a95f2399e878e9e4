"""Equal time instead of equal steps: what a study gives each model where it has `study.minutes`."""

import logging
import math
import pathlib
import statistics
import tempfile
import time

import jax
from ml_collections import ConfigDict

from ifanp_jax import training
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.study.one_run import config_of, run_dir
from ifanp_jax.training import runs

logger = logging.getLogger(__name__)

NUM_MEASURED = 12  # steps of the short training, behind the one that compiles


def num_steps_of(config: ConfigDict, workdir: str | pathlib.Path, name: str) -> int | None:
    """The steps of the runs of one model that have begun; None where none has and time decides.

    Args:
      config: of the study.
      workdir: of the study.
      name: of the model.
    """
    if not config.study.get("minutes", 0):
        return config_of(config, name, 0).train.num_steps
    for seed in config.study.seeds:
        if (begun := runs.read(run_dir(workdir, name, seed))) is not None:
            return begun[0].train.num_steps
    return None


def count_steps(config: ConfigDict, dataset: Dataset, *, minutes: float) -> int:
    """The steps that fit in a time, by a short training that is thrown away; at least 1.

    On a CPU the time is that of the processor, so that other programs beside it change little; on two cores
    the clock then shows about half of it. Elsewhere it is that of the clock. Compiling does not count.

    Args:
      config: of the run.
      dataset: of the run.
      minutes: of training.
    """
    read_clock = time.process_time if jax.default_backend() == "cpu" else time.monotonic
    seconds = []

    def wrap(train_steps):
        def timed_steps(state, images, num_steps):
            started = read_clock()
            result = jax.block_until_ready(train_steps(state, images, num_steps))
            seconds.append((read_clock() - started) / num_steps)
            return result

        return timed_steps

    short = config.copy_and_resolve_references()
    short.train.update(num_steps=NUM_MEASURED + 1, checkpoint_every=NUM_MEASURED + 1, steps_per_dispatch=1)
    short.train.init_from = ""  # a step takes as long from drawn parameters
    with tempfile.TemporaryDirectory() as folder:
        training.run(short, pathlib.Path(folder) / "run", dataset, wrap_steps=wrap)
    per_step = statistics.median(seconds[1:])
    num_steps = max(1, math.floor(60 * minutes / per_step))
    logger.info("%.1f ms a step: %d steps in %g minutes.", 1e3 * per_step, num_steps, minutes)
    return num_steps
