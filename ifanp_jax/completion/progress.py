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
        self._last = self._said = time.monotonic()
        self._sizes: set[int] = set()  # of the calls so far: the first one of a size compiles
        self._pixels_left = self._pixels_timed = 0
        self._seconds_timed = 0.0

    def expect(self, calls: int, pixels: int) -> None:
        """Adds to what is to be done.

        Args:
          calls: their number.
          pixels: of all of them.
        """
        self.total += calls
        self._pixels_left += pixels
        self._tell(None)

    def advance(self, pixels: int) -> None:
        """Counts a call that is done.

        Args:
          pixels: of it.
        """
        self.done += 1
        self._pixels_left -= pixels
        now = time.monotonic()
        if pixels in self._sizes:
            self._seconds_timed += now - self._last
            self._pixels_timed += pixels
        self._sizes.add(pixels)
        self._last = now
        left = None
        if self._pixels_timed:
            left = self._seconds_timed / self._pixels_timed * max(0, self._pixels_left)
        self._tell(left)
        if now - self._said >= EVERY and self.done < self.total:
            self._said = now
            rest = "" if left is None else f"; about {_in_words(left)} left"
            logger.info("%d of %d tiles are done%s.", self.done, self.total, rest)

    def _tell(self, left):
        if self._listener is not None:
            self._listener(self.done, self.total, left)


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
