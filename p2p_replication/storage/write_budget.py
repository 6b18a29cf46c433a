"""Fairness on SQLite: the worker holds the write lock for a slice at a time, then leaves it for a pause.

SQLite's busy handler is not fair: whoever takes the lock back to back starves all others for seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class WriteBudget:
    """Times the write transactions of one worker.

    Args:
        slice: seconds that the lock may be held, in all, before a pause is due.
        pause: seconds that the lock is left to others then.
    """

    def __init__(self, slice: float, pause: float) -> None:
        self.slice = slice
        self.pause = pause
        self._held = 0.0
        self._ended = time.monotonic()
        #: Rows a second that the last slices wrote; a guess at first.
        self._rate = 8000.0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Wait until the lock may be taken again, then time the block as holding it."""
        now = time.monotonic()
        if now - self._ended >= self.pause:
            self._held = 0.0
        elif self._held >= self.slice * 0.8:
            time.sleep(self.pause - (now - self._ended))
            self._held = 0.0
        began = time.monotonic()
        try:
            yield
        finally:
            self._ended = time.monotonic()
            self._held += self._ended - began

    def rows(self) -> int:
        """Return how many rows fit into a slice, by the speed of the last ones."""
        return max(16, int(self._rate * self.slice))

    def measured(self, rows: int, seconds: float) -> None:
        """Learn from a slice: the fixed cost of a transaction counts as well."""
        if rows >= 16 and seconds > 0:
            self._rate += 0.5 * (min(rows / seconds, 4 * self._rate) - self._rate)
