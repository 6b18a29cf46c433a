"""Clocks rise for a row whatever the wall says, and tell who wrote."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p_replication.protocol.clock import (
    MARK_MASK,
    MAX_CLOCK,
    is_too_far_ahead,
    make_clock,
    mark_of,
    milliseconds_of,
    next_clock,
    writer_of,
)
from tests.protocol.strategies import quick

marks = st.integers(0, MARK_MASK)


@quick
@given(st.lists(st.tuples(st.integers(0, 2**45), marks), max_size=20))
def test_a_rows_clock_never_runs_back_and_names_its_writer(writes):
    latest = -1
    for wall, mark in writes:
        clock = next_clock(wall, mark, latest)
        assert clock > latest
        assert clock >= make_clock(wall, mark)
        assert writer_of(clock) == mark
        # No clock with this mark lies between: a row's clock runs ahead of the wall as little as can be.
        assert clock == make_clock(wall, mark) or clock - (MARK_MASK + 1) <= latest
        latest = clock


def test_at_the_end_of_time_clocks_stand():
    assert next_clock(0, MARK_MASK, MAX_CLOCK - 1) == MAX_CLOCK
    assert next_clock(0, 3, MAX_CLOCK) == MAX_CLOCK


@quick
@given(st.integers(0, 2**46), marks)
def test_a_clock_names_its_millisecond(milliseconds, mark):
    clock = make_clock(milliseconds, mark)
    assert milliseconds_of(clock) == milliseconds
    assert make_clock(milliseconds) <= clock < make_clock(milliseconds + 1)
    assert clock < 2**63


def test_a_mark_is_the_beginning_of_the_replicas_id():
    assert mark_of("beef" + "0" * 28) == 0xBEEF


def test_only_clocks_beyond_the_allowance_are_too_far_ahead():
    assert not is_too_far_ahead(make_clock(1300, MARK_MASK), 1000, 300)
    assert is_too_far_ahead(make_clock(1301), 1000, 300)
    assert not is_too_far_ahead(0, 0, 0)
