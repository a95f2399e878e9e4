"""How far a long completion is."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

EVERY = 10.0  # seconds between two lines

# Called with the calls done, all of them, and the seconds left (None = not known yet). What it raises ends
# the completion.
Listener = Callable[[int, int, float | None], None]


class Progress:
    """Says every ten seconds how many calls of the model are done and how long the rest takes."""

    def __init__(self, *, listener: Listener | None = None):
        """Starts the clock; nothing is to be done yet."""
        self.done = self.total = 0
        self._listener = listener
        self._started = self._said = time.monotonic()

    def expect(self, count: int) -> None:
        """Adds to what is to be done.

        Args:
          count: of calls.
        """
        self.total += count
        self._tell(None)

    def advance(self) -> None:
        """Counts a call that is done."""
        self.done += 1
        now = time.monotonic()
        if self.done == 1:
            self._started = now  # the first one compiles
            self._tell(None)
            return
        left = (now - self._started) / (self.done - 1) * max(0, self.total - self.done)
        self._tell(left)
        if now - self._said >= EVERY and self.done < self.total:
            self._said = now
            logger.info("%d of %d tiles are done; about %s left.", self.done, self.total, _in_words(left))

    def _tell(self, left):
        if self._listener is not None:
            self._listener(self.done, self.total, left)


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
