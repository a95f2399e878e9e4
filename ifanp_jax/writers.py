"""Where numbers go during a training: `metrics.jsonl`, TensorBoard events and the terminal."""

import contextlib
import json
import logging
import pathlib
import sys
import time
from collections.abc import Iterator

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
LINE_EVERY_SECONDS = 15
FLUSH_EVERY_SECONDS = 10  # of TensorBoard events


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Has a file written whole or not at all.

    Args:
      path: of the file; one that is there is replaced when the new one is whole.

    Yields:
      Where to write it: a path beside it with the same suffix.

    Raises:
      OSError: that names the path, which the error of a write does not.
    """
    temporary = path.with_name(f"{path.stem}.unfinished{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = str(path)
        raise


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file whole or not at all; an OSError names it."""
    with replacing(path) as temporary:
        temporary.write_text(text)


class MetricWriter:
    """Appends rows to `metrics.jsonl` and to TensorBoard events.

    Rows after `step` are dropped when it opens, so that a resumed run leaves neither gap nor double.
    """

    def __init__(self, workdir: str | pathlib.Path, *, step: int, is_writer: bool = True):
        """Opens the logs of `workdir` to go on after `step`; of several processes only one is the writer."""
        self._is_writer = is_writer
        if not is_writer:
            return
        self._path = pathlib.Path(workdir) / METRICS_FILE
        rows = [row for row in read_metrics(workdir) if row["step"] <= step]
        write_whole(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = self._path.open("a")
        self._events = _EventFile(pathlib.Path(workdir) / "tensorboard", step=step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes one row; names are `split/name`."""
        if not self._is_writer:
            return
        with self._naming_the_place():
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            self._events.write(step, values)

    def flush(self) -> None:
        """Hands everything to the file system: what a checkpoint counts on must outlive a kill."""
        if self._is_writer:
            with self._naming_the_place():
                self._events.flush()

    def close(self) -> None:
        """Flushes both."""
        if self._is_writer:
            with self._naming_the_place():
                self._file.close()
                self._events.close()

    @contextlib.contextmanager
    def _naming_the_place(self):
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(self._path.parent)  # a write does not say where
            raise


class _EventFile:
    """TensorBoard events.

    tensorboardX's own writer is a thread behind a short queue: a full disk ends the thread with a dump, and
    then the training waits for the queue for ever.
    """

    def __init__(self, folder, *, step):
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto import event_pb2

        folder.mkdir(exist_ok=True)
        self._make_event, self._make_scalar = event_pb2.Event, summary.scalar
        self._file = event_file_writer.EventsWriter(str(folder / "events"))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)  # hides what came after `step`
        self._write(step + 1, session_log=start)
        self.flush()

    def write(self, step, values):
        for name, value in values.items():
            self._write(step, summary=self._make_scalar(name, value))
        if time.monotonic() - self._flushed > FLUSH_EVERY_SECONDS:
            self.flush()

    def flush(self):
        self._file.flush()
        self._flushed = time.monotonic()

    def close(self):
        self._file.close()

    def _write(self, step, **content):
        self._file.write_event(self._make_event(step=step, wall_time=time.time(), **content))


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
