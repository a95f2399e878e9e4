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
        self._sizes: set[tuple[int, ...]] = set()  # of the calls so far: the first one of a size compiles
        self._pixels_left = self._pixels_timed = 0
        self._seconds_timed = 0.0

    def expect(self, calls: int, pixels: int) -> None:
        """Adds calls, and the pixels of all of them, to what is to be done."""
        self.total += calls
        self._pixels_left += pixels
        self._tell(None)

    def advance(self, tiles: list[int]) -> None:
        """Counts the tiles of a call that is done, by the pixels of each."""
        if not tiles:
            return
        self.done += len(tiles)
        self._pixels_left -= sum(tiles)
        now = time.monotonic()
        if tuple(tiles) in self._sizes:
            self._seconds_timed += now - self._last
            self._pixels_timed += sum(tiles)
        self._sizes.add(tuple(tiles))
        self._last = now
        timed = self._pixels_timed
        left = self._seconds_timed / timed * max(0, self._pixels_left) if timed else None
        self._tell(left)
        if now - self._said >= EVERY and self.done < self.total:
            self._said = now
            rest = ""
            if left is not None:
                rest = f"; about {left:.0f} s left" if left < 100 else f"; about {left / 60:.0f} min left"
            logger.info("%d of %d tiles are done%s.", self.done, self.total, rest)

    def _tell(self, left):
        if self._listener is not None:
            self._listener(self.done, self.total, left)
