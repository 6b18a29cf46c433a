"""The delay between two tries: doubles from one failure to the next, with a little jitter."""

from __future__ import annotations

import random
from collections.abc import Callable

#: Seconds.
FIRST_DELAY = 0.5
MAXIMUM_DELAY = 15.0
#: What lived at least this long (seconds) was good: the next failure starts from the first delay again.
GOOD_AFTER = 5.0

#: Share of the delay by which it is shortened at random, so that peers that failed together do not return together.
_JITTER = 0.2


class Backoff:
    """Give the seconds to wait before each further try.

    Args:
        first: the delay after the first failure.
        maximum: no delay is longer.
        draw: returns a random number in [0, 1).
    """

    def __init__(
        self,
        first: float = FIRST_DELAY,
        maximum: float = MAXIMUM_DELAY,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._maximum = maximum
        self._draw = draw
        self._next = first

    def next_delay(self) -> float:
        delay = min(self._next, self._maximum)
        self._next = min(self._next * 2, self._maximum)
        return delay * (1 - _JITTER * self._draw())

    def reset(self) -> None:
        self._next = self._first

    def reset_if_good(self, lived: float) -> None:
        """Start from the first delay again if what just ended had lived long enough (seconds)."""
        if lived >= GOOD_AFTER:
            self.reset()


__all__ = ["FIRST_DELAY", "GOOD_AFTER", "MAXIMUM_DELAY", "Backoff"]
