"""Logs on disk; what a resumed run makes of them is in `test_loop.py`."""

import errno
import json
import os
import struct

import pytest
from tensorboardX import record_writer
from tensorboardX.proto import event_pb2

from ifanp_jax import files
from ifanp_jax.training import metrics_file


def read_events(folder):
    """The records of all event files: length, its checksum, an event and its checksum."""
    events = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            events.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def test_tensorboard_gets_every_value_and_where_the_run_went_on(tmp_path):
    writer = metrics_file.MetricWriter(tmp_path, step=4)
    writer.write(6, {"train/loss": 1.5, "train/psnr": 20.0})
    writer.write(8, {"val/psnr": 21.0})
    writer.close()
    version, start, *rest = read_events(tmp_path / "tensorboard")
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (5, event_pb2.SessionLog.START)
    values = [(event.step, value.tag, value.simple_value) for event in rest for value in event.summary.value]
    assert values == [(6, "train/loss", 1.5), (6, "train/psnr", 20.0), (8, "val/psnr", 21.0)]


class SmallDisk:
    """A file on a disk with room for 1 kB."""

    def __init__(self, path):
        self.room = 1000

    def write(self, content):
        self.room -= len(content)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self):
        pass

    def close(self):
        pass


def test_a_full_disk_is_an_error_of_the_training_itself(tmp_path, monkeypatch):
    # In a thread of tensorboardX it would be lost, and the training would wait for the thread.
    monkeypatch.setattr(record_writer, "open_file", SmallDisk)
    writer = metrics_file.MetricWriter(tmp_path, step=0)
    with pytest.raises(OSError, match="No space left on device") as caught:
        for step in range(1000):
            writer.write(step, {"train/loss": 1.0})
    assert caught.value.filename == str(tmp_path)
    assert 10 < len(metrics_file.read_metrics(tmp_path)) < 30
    writer.close()


def test_a_file_that_cannot_be_written_whole_leaves_nothing_behind(tmp_path):
    path = tmp_path / "run.json"
    path.mkdir()  # what cannot be replaced by a file
    with pytest.raises(OSError):
        files.write_whole(path, "text")
    assert list(tmp_path.iterdir()) == [path]


def test_metric_rows_cut_off_by_a_crash_are_left_out(tmp_path):
    rows = [{"step": step, "train/loss": 1.0} for step in (1, 2, 3)]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "tr'
    (tmp_path / metrics_file.METRICS_FILE).write_text(text)
    writer = metrics_file.MetricWriter(tmp_path, step=2)
    writer.write(3, {"train/loss": 0.5})
    writer.close()
    assert metrics_file.read_metrics(tmp_path) == [*rows[:2], {"step": 3, "train/loss": 0.5}]
