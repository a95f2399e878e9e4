"""SIGTERM and SIGINT: the first lets a training save its step, the second ends the process at once.

A thread acts on them, since a handler of Python's waits until the main thread leaves the compiled program.
Exit statuses are 128 + the number of the signal: 143 after SIGTERM, 130 after SIGINT.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_lock = threading.Lock()
_received = 0  # the first signal
_is_deferred = False
_is_installed = False


def install() -> None:
    """Takes over SIGTERM and SIGINT; outside of `deferred` they end the process at once.

    Call it in the main thread, and again after `jax.distributed.initialize`, which sets a handler of its own.
    """
    global _is_installed
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)  # without a handler nothing is written to the pipe
    if not _is_installed:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()
    _is_installed = True


def received() -> int:
    """The number of the first signal, or 0."""
    return _received


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """While it is open the first signal is only noted for `received`: a training saves and ends by itself."""
    with noted():
        yield
    if _received:
        raise SystemExit(exit_status(_received))


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Like `deferred`, but the process goes on after it: a server has nothing to save and ends with 0."""
    global _is_deferred
    _is_deferred = True
    try:
        yield
    finally:
        with _lock:  # a signal that is being noted still counts as deferred
            _is_deferred = False


def exit_status(number: int) -> int:
    """What the process ends with after this signal."""
    return 128 + number


def _watch(reader):
    global _received
    while True:
        number = os.read(reader, 1)[0]
        if number not in SIGNALS:
            continue
        name = signal.Signals(number).name
        with _lock:
            if not _is_deferred or _received:
                # All files are written beside their place and renamed, so nothing is left half done.
                logger.warning("%s: ended at once.", name)
                sys.stderr.flush()
                os._exit(exit_status(number))
            _received = number
        logger.warning("%s: what is under way is saved, then the process ends; once more ends it now.", name)
