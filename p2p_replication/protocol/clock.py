"""Hybrid logical clocks (Kulkarni et al., 2014), one per row: wall time that never runs back for a row.

A clock is one integer: milliseconds since the epoch in the high bits, 16 low bits that keep writes of one
millisecond in their order. Two rows need no common clock: last-writer-wins asks only for causality per row.
"""

from __future__ import annotations

LOW_BITS = 16
LOW_MASK = (1 << LOW_BITS) - 1

#: The clock of rows that were there before replication was.
ADOPTED = 0
#: The largest clock there is (the year 4199). Only a peer that lies gets a row there.
MAX_CLOCK = 2**62
#: ``deleted`` of a row that never was.
NEVER = -1


def make_clock(milliseconds: int, ordinal: int = 0) -> int:
    """Return the clock of the ``ordinal``-th write of this millisecond."""
    return (milliseconds << LOW_BITS) | min(ordinal, LOW_MASK)


def milliseconds_of(clock: int) -> int:
    return clock >> LOW_BITS


def next_clock(wall: int, latest: int) -> int:
    """Return the clock of a write at ``wall`` (a clock) to a row whose latest clock is ``latest``."""
    return wall if wall > latest else min(latest + 1, MAX_CLOCK)


def is_too_far_ahead(clock: int, now_ms: int, allowed_ms: int) -> bool:
    """Tell whether a clock claims a time further ahead of ours than is allowed."""
    return milliseconds_of(clock) > now_ms + allowed_ms


class WallClock:
    """Turns the log's milliseconds into clocks, in log order: equal milliseconds get rising low bits."""

    def __init__(self) -> None:
        self._milliseconds = -1
        self._ordinal = 0

    def clock(self, milliseconds: int) -> int:
        if milliseconds == self._milliseconds:
            self._ordinal += 1
        else:
            self._milliseconds, self._ordinal = milliseconds, 0
        return make_clock(milliseconds, self._ordinal)
