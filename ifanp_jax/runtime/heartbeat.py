"""Notices processes of a run that died or hang, so that the others do not wait for ever.

Every process counts up a number in the key-value store of `jax.distributed` and reads those of the others.
JAX has a heartbeat of its own, but it ends processes with a dump that does not say what to do. It makes the
store but does not hand it out, so this file, and no other, uses a part of JAX that is not public.
"""

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

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
      stall_seconds: without a finished dispatch, after a first one, until the run counts as stuck.
    """
    import jax  # here, since the command line imports this module before it says what JAX must know

    global _watch
    if jax.process_count() == 1:
        return
    store = find_store()
    if store is None:
        logger.warning(
            "JAX %s has no key-value store for this package: a process that is gone is noticed by JAX alone, "
            "which ends the others with a dump; start them again.",
            jax.__version__,
        )
        return
    _watch = Watch(
        store,
        index=jax.process_index(),
        num_processes=jax.process_count(),
        heartbeat_seconds=heartbeat_seconds,
        stall_seconds=stall_seconds,
    )
    atexit.register(_watch.close)
    for loop in (_send, _look):
        threading.Thread(target=loop, args=(_watch,), name="peers", daemon=True).start()


@contextlib.contextmanager
def deadline(seconds: float, message: str) -> Iterator[None]:
    """Ends the process with this message when what is inside takes longer; JAX would end it with a dump."""
    timer = threading.Timer(seconds, _end, (message,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def await_watch(error: Exception) -> None:
    """After an error that may come of a broken connection: waits until `watch` finds who is gone.

    Where nobody is, it was an error of this process: then the process ends here, with its traceback. Does
    nothing where there is one process.
    """
    if _watch is None:
        return
    reason = first_line(error)[:200]
    logger.error("Stopped (%s); waiting to see whether another process is gone.", reason)
    time.sleep(2 * _watch.heartbeat_seconds)
    traceback.print_exception(error)
    exit_alone(1)


def exit_alone(status: int) -> None:
    """Ends one of several processes without waiting for the others, which then notice it.

    Python's own exit would wait for them in JAX. Does nothing where there is one process.
    """
    if _watch is not None:
        sys.stderr.flush()
        os._exit(status)


def find_store() -> Any | None:
    """The client of this run's store after `jax.distributed.initialize`; None where this JAX has none."""
    try:
        from jax._src import distributed

        client = distributed.global_state.client
        if callable(client.key_value_set) and callable(client.key_value_dir_get):
            return client
    except (ImportError, AttributeError):
        pass
    return None


class Watch:
    """What a process knows of the others. One thread sends, which may wait; another looks at the clock."""

    def __init__(
        self,
        store: Any,
        *,
        index: int,
        num_processes: int,
        heartbeat_seconds: float,
        stall_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts now, in process `index`; `store` is the client that `find_store` gives."""
        self._store, self.index, self._clock = store, index, clock
        self.heartbeat_seconds, self._stall_seconds = heartbeat_seconds, stall_seconds
        others = [other for other in range(num_processes) if other != index]
        now = clock()
        self._count = 0
        self._beats = dict.fromkeys(others, "")
        self._seen = dict.fromkeys(others, now)  # when their number last changed
        self._answered = now  # when the store last answered
        self._step, self._step_since = "0", now
        self.is_closed = False

    def exchange(self, step: str) -> None:
        """Tells the others that this process is alive, at this step, and hears of them."""
        self._count += 1
        try:
            self._tell(f"{self._count} {step}")
            if self.is_closed:
                return self.close()  # it must stay the last word
            for key, beat in self._store.key_value_dir_get(KEY):
                other = int(key.rpartition("/")[2])
                if other != self.index and beat != self._beats[other]:
                    self._beats[other], self._seen[other] = beat, self._clock()
            self._answered = self._clock()
        except Exception as error:  # `find_trouble` decides how long that may go on
            logger.debug("The coordinator does not answer: %s", error)

    def find_trouble(self, step: str) -> str | None:
        """Why the run cannot go on, or None; `step` is that of this process, "0" while none is due."""
        now = self._clock()
        if step != self._step:
            self._step, self._step_since = step, now
        if now - self._answered > self.heartbeat_seconds:
            return "process 0, the coordinator, does not answer"
        silent = [
            f"process {other}"
            for other, seen in self._seen.items()
            if self._beats[other] != DONE and now - seen > self.heartbeat_seconds
        ]
        if silent:
            return f"no sign of life from {' and '.join(silent)}"
        if step != "0" and now - self._step_since > self._stall_seconds:
            where = ", ".join(
                f"process {other} at {beat.rpartition(' ')[2]}" for other, beat in self._beats.items()
            )
            return f"no step ended any more: this process is at step {step}, {where}"
        return None

    def close(self) -> None:
        """Tells the others that this process ends as it should."""
        self.is_closed = True
        try:
            self._tell(DONE)
        except Exception:
            logger.debug("The coordinator is gone already.")

    def _tell(self, text):
        self._store.key_value_set(f"{KEY}/{self.index}", text, allow_overwrite=True)


def _send(watch):
    while not watch.is_closed:
        watch.exchange(_progress)
        time.sleep(watch.heartbeat_seconds / BEATS)


def _look(watch):
    while not watch.is_closed:
        time.sleep(watch.heartbeat_seconds / BEATS)
        trouble = watch.find_trouble(_progress)
        if trouble and not watch.is_closed:
            _end(
                f"{trouble} (heartbeat {watch.heartbeat_seconds:g} s, process {watch.index}); the last "
                "checkpoint is whole: start all processes again with the same command."
            )


def _end(message):
    """Ends this process, which may be started again."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(PASSING_STATUS)
