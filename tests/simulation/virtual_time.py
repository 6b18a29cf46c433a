"""Virtual time: events in the order of their times, with nothing running in between."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class VirtualTime:
    """Runs callables at their times. Events of one instant run in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, time: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(time, self.now), next(self._numbers), call))

    def later(self, delay: float, call: Callable[[], None]) -> None:
        self.at(self.now + delay, call)

    def run(self, seconds: float, most_events: int = 200_000) -> None:
        """Run what is due within so many seconds. Raises AssertionError if that never ends."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self._next()
            most_events -= 1
            assert most_events > 0, f"too many events before {end:g} s"
        self.now = end

    def run_until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Run until a condition holds after an event. Raises AssertionError if it does not within so many seconds."""
        end = self.now + seconds
        while not condition():
            assert self._events and self._events[0][0] <= end, f"not within {seconds:g} s"
            self._next()

    def _next(self) -> None:
        self.now, _, call = heapq.heappop(self._events)
        call()
