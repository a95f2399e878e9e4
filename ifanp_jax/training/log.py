"""Metrics of the steps: averaged into rows, written, and shown on the terminal."""

import logging
import math
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ifanp_jax.errors import UserError
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training.metrics_file import MetricWriter
from ifanp_jax.training.runs import Run

logger = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 15
# Without the bar's own speed and time left, which count compilation and validation: ours do not.
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"


class MetricLog:
    """Turns metrics into rows one dispatch late, so that the device computes while the host waits.

    A row is the mean over the last `log_every` steps. What a checkpoint finds of the next row and of the time
    is saved with it as `record`, so that a resumed run averages over the same steps and goes on counting.
    """

    def __init__(
        self,
        run: Run,
        workdir: str | pathlib.Path,
        *,
        record: dict[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ):
        """Opens the logs of `workdir` to go on after the steps of `run`; only the first process writes.

        `record` is that of the checkpoint that the run goes on from; {} at the start.
        """
        is_first = device_mesh.is_first_process()
        self._run, self._train, self._clock = run, run.config.train, clock
        self._writer = MetricWriter(workdir, step=run.num_steps_done) if is_first else None
        self._progress = Progress(
            self._train.num_steps, step=run.num_steps_done, is_shown=is_first, clock=clock
        )
        self._pending = None  # the newest dispatch
        self._window = list(record.get("metrics_window", ()))  # metrics of the steps since the last row
        self._training_seconds = record.get("training_seconds", 0.0)
        self._step_seconds = []  # since the last row, without compilation
        self._compiled = set()  # numbers of steps whose program is there: the first time counts compilation
        self.restart_clock()

    @property
    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps of the log, as JSON values."""
        return {"metrics_window": self._window, "training_seconds": self._training_seconds}

    def restart_clock(self) -> None:
        """Leaves out of the speed what was done since the last metrics."""
        self._started = self._clock()

    def add(self, first: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics (n,) of the dispatch after step `first`, and writes those of the one before."""
        previous, self._pending = self._pending, (first, metrics)
        if previous:
            self._write_dispatch(*previous)

    def flush(self) -> None:
        """Writes all that is known."""
        if self._pending:
            self._write_dispatch(*self._pending)
        self._pending = None
        if self._writer:
            self._writer.flush()

    def write(self, step: int, row: dict[str, float]) -> None:
        """Writes a row of numbers."""
        if self._writer:
            self._writer.write(step, row)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._progress.close()
        if self._writer:
            self._writer.close()

    def _write_dispatch(self, first, metrics):
        metrics = jax.device_get(metrics)
        num_steps = len(next(iter(metrics.values())))
        seconds = self._clock() - self._started
        self._training_seconds += seconds
        self.restart_clock()
        is_compiled = num_steps in self._compiled
        if not self._compiled:
            steps = "step" if num_steps == 1 else f"{num_steps} steps"
            logger.info("Compiled and first %s in %.1f s.", steps, seconds)
        for index in range(num_steps):
            step = first + index + 1
            self._window.append({name: float(values[index]) for name, values in metrics.items()})
            check_finite(step, self._window[-1], self._run)
            if is_compiled:
                self._step_seconds.append(seconds / num_steps)
            if is_due(step, self._train.log_every, self._train.num_steps):
                self._write_row(step)
        self._compiled.add(num_steps)
        self._progress.advance(num_steps)

    def _write_row(self, step):
        names = self._window[0]
        averages = {name: float(np.mean([row[name] for row in self._window])) for name in names}
        row = {f"train/{name}": value for name, value in averages.items()}
        row["train/learning_rate"] = float(self._run.step.schedule(step - 1))
        row["train/seconds"] = self._training_seconds
        steps_per_second = 0.0
        if self._step_seconds:
            steps_per_second = len(self._step_seconds) / sum(self._step_seconds)
            row["train/steps_per_second"] = steps_per_second
            row["train/images_per_second"] = steps_per_second * self._train.batch_size
        self.write(step, row)
        self._progress.show(step, self._run.step.show(averages), steps_per_second, self._train.batch_size)
        self._window, self._step_seconds = [], []


def is_due(step: int, period: int, num_steps: int) -> bool:
    """At every multiple of the period and at the end; 0 = never."""
    return period > 0 and (step % period == 0 or step == num_steps)


def check_finite(step: int, metrics: dict[str, float], run: Run) -> None:
    """Raises a UserError for the first metric of a step that must be finite and is not."""
    finite = run.step.finite_metrics
    for name in finite:
        if not math.isfinite(metrics[name]):
            facts = ", ".join(f"{other} {metrics[other]}" for other in finite if other != name)
            raise UserError(
                f"The {name} is {metrics[name]} at step {step} ({facts}, seed {run.config.seed}); "
                f"{run.step.remedy}, and go on from the last checkpoint in the workdir."
            )


def _three_digits(value: float) -> str:
    """A speed as text, so that one and its multiple agree."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


class Progress:
    """A bar on a terminal; elsewhere a plain line now and then."""

    def __init__(
        self,
        num_steps: int,
        *,
        step: int,
        is_shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts the bar of a training of `num_steps`; of several processes only one shows it."""
        from tqdm import tqdm

        self._num_steps, self._is_shown, self._clock = num_steps, is_shown, clock
        self._last_line = clock()
        self._bar = tqdm(
            total=num_steps,
            initial=step,
            unit="step",
            disable=not (is_shown and sys.stderr.isatty()),
            dynamic_ncols=True,
            bar_format=BAR,
        )

    def advance(self, num_steps: int) -> None:
        """Counts steps done."""
        self._bar.update(num_steps)

    def show(self, step: int, text: str, steps_per_second: float, batch_size: int) -> None:
        """Shows the newest row and the speed, which leaves compilation out; 0 = not known yet."""
        if steps_per_second:
            left = (self._num_steps - step) / steps_per_second
            steps, images = map(_three_digits, (steps_per_second, steps_per_second * batch_size))
            speed = f"{steps} steps/s  {images} images/s"
            text = f"{text}  {speed}  {left:.0f} s left"
        self._bar.set_postfix_str(text)
        now = self._clock()
        is_line = self._is_shown and self._bar.disable
        if is_line and (now - self._last_line >= LINE_EVERY_SECONDS or step == self._num_steps):
            self._last_line = now
            logger.info("step %d/%d  %s", step, self._num_steps, text)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
