"""How far a long completion is."""

import logging
import time

logger = logging.getLogger(__name__)

EVERY = 10.0  # seconds between two lines


class Progress:
    """Says every ten seconds how many calls of the model are done and how long the rest takes."""

    def __init__(self):
        """Starts the clock; nothing is to be done yet."""
        self.done = self.total = 0
        self._started = self._said = time.monotonic()

    def expect(self, count: int) -> None:
        """Adds to what is to be done.

        Args:
          count: of calls.
        """
        self.total += count

    def advance(self) -> None:
        """Counts a call that is done."""
        self.done += 1
        now = time.monotonic()
        if self.done == 1:
            self._started = now  # the first one compiles
        elif now - self._said >= EVERY and self.done < self.total:
            self._said = now
            left = (now - self._started) / (self.done - 1) * (self.total - self.done)
            logger.info("%d of %d tiles are done; about %s left.", self.done, self.total, _in_words(left))


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
