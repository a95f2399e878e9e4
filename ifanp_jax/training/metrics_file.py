"""Numbers of a training on disk: `metrics.jsonl` and TensorBoard events."""

import contextlib
import json
import pathlib
import time

from ifanp_jax import files

METRICS_FILE = "metrics.jsonl"
FLUSH_EVERY_SECONDS = 10  # of TensorBoard events


class MetricWriter:
    """Appends rows to `metrics.jsonl` and to TensorBoard events.

    Rows after `step` are dropped when it opens, so that a resumed run leaves neither gap nor double.
    """

    def __init__(self, workdir: str | pathlib.Path, *, step: int):
        """Opens the logs of `workdir` to go on after `step`."""
        self._path = pathlib.Path(workdir) / METRICS_FILE
        rows = [row for row in read_metrics(workdir) if row["step"] <= step]
        files.write_whole(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = self._path.open("a")
        self._events = _EventFile(pathlib.Path(workdir) / "tensorboard", step=step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes one row; names are `split/name`."""
        with self._naming_the_place():
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            self._events.write(step, values)

    def flush(self) -> None:
        """Hands everything to the file system: what a checkpoint counts on must outlive a kill."""
        with self._naming_the_place():
            self._events.flush()

    def close(self) -> None:
        """Flushes both."""
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
    path, rows = pathlib.Path(workdir) / METRICS_FILE, []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows
