"""Jumps of the wall clock: how a worker learns that its machine was set back to a snapshot.

A resumed machine believes that no time has passed; then its wall clock is set right, while the clock that counts from
its start goes on as if nothing had happened. Counters that this start gave after the snapshot would be given again:
a new origin has to be made before the next one. A clock that a person sets right by minutes costs a new origin, too,
and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from p2p_replication.exceptions import StaleReplica

#: Seconds. NTP slews by less than one second in a quarter of an hour; what it steps is a jump like any other.
TOLERATED = 3.0


def boot_time() -> float:
    """Return the seconds since the machine was started, those that it slept included where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class ClockJumps:
    """Compares two clocks from check to check.

    Args:
        wall, boot: seconds; the wall clock, and one that nobody sets.
    """

    def __init__(self, wall: Callable[[], float] = time.time, boot: Callable[[], float] = boot_time) -> None:
        self._wall, self._boot = wall, boot
        self._difference = wall() - boot()

    def check(self) -> None:
        """Raise StaleReplica, from now on at every call, if the wall clock has jumped since the last check."""
        difference = self._wall() - self._boot()
        jump = difference - self._difference
        if abs(jump) > TOLERATED:
            raise StaleReplica(f"the wall clock has jumped by {jump:.0f} s (a resumed machine snapshot?)")
        self._difference = difference
