"""Clocks rise for a row whatever the wall says, and keep writes of one millisecond in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p_replication.protocol.clock import (
    LOW_MASK,
    WallClock,
    is_too_far_ahead,
    make_clock,
    milliseconds_of,
    next_clock,
)
from tests.protocol.strategies import quick


@quick
@given(st.lists(st.integers(0, 2**45), max_size=20))
def test_a_rows_clock_never_runs_back(walls):
    latest = -1
    for wall in walls:
        clock = next_clock(wall, latest)
        assert clock > latest
        assert clock >= wall
        latest = clock


@quick
@given(st.integers(0, 2**46), st.integers(0, 2 * LOW_MASK))
def test_a_clock_names_its_millisecond(milliseconds, ordinal):
    clock = make_clock(milliseconds, ordinal)
    assert milliseconds_of(clock) == milliseconds
    assert make_clock(milliseconds) <= clock < make_clock(milliseconds + 1)
    assert clock < 2**63


def test_writes_of_one_millisecond_keep_their_order():
    wall = WallClock()
    clocks = [wall.clock(1000) for _ in range(LOW_MASK + 1)]
    assert clocks == sorted(set(clocks))
    assert wall.clock(1000) == clocks[-1]  # Full: the row's own clock goes on from here.
    assert wall.clock(1001) > clocks[-1]
    assert wall.clock(999) < clocks[0]


def test_only_clocks_beyond_the_allowance_are_too_far_ahead():
    assert not is_too_far_ahead(make_clock(1300, LOW_MASK), 1000, 300)
    assert is_too_far_ahead(make_clock(1301), 1000, 300)
    assert not is_too_far_ahead(0, 0, 0)
