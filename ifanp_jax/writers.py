"""Where numbers go during a training: `metrics.jsonl`, TensorBoard events and the terminal."""

import json
import logging
import os
import pathlib
import sys
import time

logger = logging.getLogger(__name__)


METRICS_FILE = "metrics.jsonl"
LINE_EVERY_SECONDS = 15


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


class MetricWriter:
    """Appends rows to `metrics.jsonl` and to TensorBoard events.

    Rows after `step` are dropped when it opens, so that a resumed run leaves neither gap nor double.
    """

    def __init__(self, workdir: str | pathlib.Path, *, step: int, is_writer: bool = True):
        """Opens the logs of `workdir` to go on after `step`; of several processes only one is the writer."""
        self._is_writer = is_writer
        if not is_writer:
            return
        from tensorboardX import SummaryWriter

        self._path = pathlib.Path(workdir) / METRICS_FILE
        rows = [row for row in read_metrics(workdir) if row["step"] <= step]
        write_whole(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = self._path.open("a")
        self._events = SummaryWriter(str(pathlib.Path(workdir) / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes one row; names are `split/name`."""
        if not self._is_writer:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes both."""
        if self._is_writer:
            self._file.close()
            self._events.close()


def read_metrics(workdir: str | pathlib.Path) -> list[dict]:
    """Reads the rows of `metrics.jsonl`; a line cut off by a crash is left out."""
    path = pathlib.Path(workdir) / METRICS_FILE
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


class Progress:
    """A bar on a terminal; elsewhere a plain line now and then."""

    def __init__(self, num_steps: int, *, step: int, is_shown: bool = True):
        """Starts at `step` of `num_steps`; of several processes only one shows it."""
        from tqdm import tqdm

        self._num_steps = num_steps
        self._is_shown = is_shown
        self._first = step
        self._start = self._last_line = time.monotonic()
        self._bar = tqdm(
            total=num_steps,
            initial=step,
            unit="step",
            disable=not (is_shown and sys.stderr.isatty()),
            dynamic_ncols=True,
        )

    def advance(self, num_steps: int) -> None:
        """Counts steps done."""
        self._bar.update(num_steps)

    def show(self, step: int, row: dict[str, float]) -> None:
        """Shows loss, PSNR and throughput of the newest row."""
        loss, psnr, speed = row["train/loss"], row["train/psnr"], row.get("train/images_per_second", 0)
        self._bar.set_postfix_str(f"loss {loss:.1f} psnr {psnr:.2f} dB {speed:,.0f} images/s")
        now = time.monotonic()
        is_line = self._is_shown and self._bar.disable
        if is_line and (now - self._last_line >= LINE_EVERY_SECONDS or step == self._num_steps):
            self._last_line = now
            rate = (step - self._first) / (now - self._start)
            remaining = (self._num_steps - step) / max(rate, 1e-9)
            logger.info(
                "step %d/%d  loss %.1f  psnr %.2f dB  %.1f steps/s  %s images/s  %d s left",
                step, self._num_steps, loss, psnr, rate, f"{speed:,.0f}", remaining,
            )  # fmt: skip

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
