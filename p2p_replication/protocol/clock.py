"""Hybrid logical clocks (Kulkarni et al., 2014), one per row: wall time that never runs back for a row.

A clock is one integer: milliseconds since the epoch in the high bits, the writer's mark in the 16 low bits. So no two
replicas give a row the same clock, and a clock tells who wrote. Two rows need no common clock: last-writer-wins asks
only for causality per row.
"""

from __future__ import annotations

MARK_BITS = 16
MARK_MASK = (1 << MARK_BITS) - 1

#: The clock of rows that were there before replication was.
ADOPTED = 0
#: The largest clock there is (the year 4199). Only a peer that lies gets a row there.
MAX_CLOCK = 2**62
#: ``deleted`` of a row that never was.
NEVER = -1


def mark_of(replica_id: str) -> int:
    """Return the mark of a replica: the first 16 bits of its id (hex digits)."""
    return int(replica_id[: MARK_BITS // 4], 16)


def make_clock(milliseconds: int, mark: int = 0) -> int:
    """Return the clock of a write in this millisecond, by the replica with this mark."""
    return (milliseconds << MARK_BITS) | mark


def milliseconds_of(clock: int) -> int:
    return clock >> MARK_BITS


def writer_of(clock: int) -> int:
    """Return the mark of the replica that gave a clock."""
    return clock & MARK_MASK


def next_clock(milliseconds: int, mark: int, latest: int) -> int:
    """Return the clock of a write, by the replica with this mark, to a row whose latest clock is ``latest``.

    It is the write's own time, or the first one above ``latest`` that has the mark.
    """
    clock = make_clock(milliseconds, mark)
    if clock <= latest:
        clock = make_clock(milliseconds_of(latest) + (mark <= writer_of(latest)), mark)
    return min(clock, MAX_CLOCK)


def is_too_far_ahead(clock: int, now_ms: int, allowed_ms: int) -> bool:
    """Tell whether a clock claims a time further ahead of ours than is allowed."""
    return milliseconds_of(clock) > now_ms + allowed_ms
