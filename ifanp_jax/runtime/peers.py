"""Notices processes of a run that died or hang, so that the others do not wait for ever.

Every process counts up a number in the key-value store of `jax.distributed` and reads those of the others.
JAX has a heartbeat of its own, but it ends processes with a dump that does not say what to do.
"""

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from ifanp_jax.errors import PASSING_STATUS, first_line

logger = logging.getLogger(__name__)

KEY = "ifanp_jax/heartbeat"
BEATS = 6  # per heartbeat time
DONE = "done"

_watch = None
_progress = "0"  # what the training last reported


def report_progress(step: int) -> None:
    """Tells the others how far this process is, for the message when the run hangs."""
    global _progress
    _progress = str(step)


def watch(*, heartbeat_seconds: float, stall_seconds: float) -> None:
    """Ends this process with `PASSING_STATUS` when another one is gone, or when no step ends any more.

    Does nothing where there is one process.

    Args:
      heartbeat_seconds: of silence after which a process counts as gone.
      stall_seconds: without a finished dispatch, once a training reported one, after which the run counts as
        stuck.
    """
    import jax  # here, since the command line imports this module before it says what JAX must know

    global _watch
    if jax.process_count() > 1:
        _watch = _Watch(heartbeat_seconds, stall_seconds)
        _watch.start()


@contextlib.contextmanager
def deadline(seconds: float, message: str) -> Iterator[None]:
    """Ends the process with `PASSING_STATUS` when what is inside takes longer; JAX would end it with a dump.

    Args:
      seconds: allowed.
      message: one sentence.
    """

    def end():
        print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(PASSING_STATUS)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def await_verdict(error: Exception) -> None:
    """After an error that may come of a broken connection: waits until `watch` finds who is gone.

    Where nobody is, it was an error of this process: then the process ends here, with its traceback. Does
    nothing where there is one process.

    Args:
      error: that was raised.
    """
    if _watch is None:
        return
    reason = first_line(error)[:200]
    logger.error("Stopped (%s); waiting to see whether another process is gone.", reason)
    time.sleep(2 * _watch.heartbeat_seconds)
    traceback.print_exception(error)
    leave(1)


def leave(status: int) -> None:
    """Ends one of several processes without waiting for the others, which then notice it.

    Python's own exit would wait for them in JAX. Does nothing where there is one process.

    Args:
      status: exit status.
    """
    if _watch is not None:
        sys.stderr.flush()
        os._exit(status)


class _Watch:
    """Two threads: one speaks with the coordinator, which may block, and one looks at the clock."""

    def __init__(self, heartbeat_seconds, stall_seconds):
        import jax
        from jax._src import distributed  # the public module does not hand out the client

        self._client = distributed.global_state.client
        self._me = jax.process_index()
        self._others = [index for index in range(jax.process_count()) if index != self._me]
        self.heartbeat_seconds, self._stall_seconds = heartbeat_seconds, stall_seconds
        now = time.monotonic()
        self._beats = dict.fromkeys(self._others, "")
        self._seen = dict.fromkeys(self._others, now)  # when their number last changed
        self._answered = now  # when the coordinator last answered
        self._is_closing = False

    def start(self):
        atexit.register(self._close)
        for target in (self._speak, self._judge):
            threading.Thread(target=target, name="peers", daemon=True).start()

    def _close(self):
        self._is_closing = True
        try:
            self._client.key_value_set(f"{KEY}/{self._me}", DONE, allow_overwrite=True)
        except Exception:
            logger.debug("The coordinator is gone already.")

    def _speak(self):
        count = 0
        while not self._is_closing:
            count += 1
            try:
                beat = f"{count} {_progress}"
                self._client.key_value_set(f"{KEY}/{self._me}", beat, allow_overwrite=True)
                if self._is_closing:
                    return self._close()  # it must stay the last word
                for key, beat in self._client.key_value_dir_get(KEY):
                    index = int(key.rpartition("/")[2])
                    if index != self._me and beat != self._beats[index]:
                        self._beats[index], self._seen[index] = beat, time.monotonic()
                self._answered = time.monotonic()
            except Exception as error:  # the judge decides how long that may go on
                logger.debug("The coordinator does not answer: %s", error)
            time.sleep(self.heartbeat_seconds / BEATS)

    def _judge(self):
        step, step_since = _progress, time.monotonic()
        while not self._is_closing:
            time.sleep(self.heartbeat_seconds / BEATS)
            now = time.monotonic()
            if _progress != step:
                step, step_since = _progress, now
            if now - self._answered > self.heartbeat_seconds:
                self._end("process 0, the coordinator, does not answer")
            silent = [
                index
                for index in self._others
                if self._beats[index] != DONE and now - self._seen[index] > self.heartbeat_seconds
            ]
            if silent:
                names = " and ".join(f"process {index}" for index in silent)
                self._end(f"no sign of life from {names}")
            if step != "0" and now - step_since > self._stall_seconds:
                where = ", ".join(
                    f"process {index} at {beat.rpartition(' ')[2]}" for index, beat in self._beats.items()
                )
                self._end(f"no step ended any more: this process is at step {step}, {where}")

    def _end(self, reason):
        if self._is_closing:
            return
        seconds = self.heartbeat_seconds
        print(
            f"error: {reason} (heartbeat {seconds:g} s, process {self._me}); the last checkpoint is whole: "
            "start all processes again with the same command.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(PASSING_STATUS)
