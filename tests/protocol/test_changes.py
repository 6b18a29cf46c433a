"""Rows on the wire: what is packed comes out the same, and what no correct peer packs is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from p2p_replication.protocol.changes import MAX_INTEGER, ChangedRow, check_rows, pack_rows, unpack_rows
from p2p_replication.protocol.clock import next_clock
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.messages import Rows
from p2p_replication.protocol.row_state import RowState
from tests.protocol.strategies import FIELDS, quick, rows

_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Rows)


def across(packed: Rows) -> Rows:
    return _decoder.decode(_encoder.encode(packed))


def same(a: ChangedRow, b: ChangedRow) -> bool:
    return a[:4] == b[:4] and type(a.key) is type(b.key) and a.state == b.state and a.state.latest() == b.state.latest()


@quick
@given(rows())
def test_rows_come_out_as_they_went_in(batch):
    packed = across(pack_rows(FIELDS, batch))
    check_rows(packed)
    again = list(unpack_rows(packed))
    assert len(again) == len(batch)
    assert all(map(same, again, batch))


@quick
@given(rows())
def test_packing_again_gives_the_same_bytes(batch):
    packed = pack_rows(FIELDS, batch)
    assert _encoder.encode(pack_rows(FIELDS, list(unpack_rows(across(packed))))) == _encoder.encode(packed)


def example() -> list[ChangedRow]:
    """Return a batch with everything in it."""
    return [
        ChangedRow("k1", 3, {"o1": 3}, ("o1", 3), RowState(9, clock=9, values={"a": 1, "b": "x"})),
        ChangedRow("k2", 5, {"o2": 4, "o1": 2}, ("o3", 1), RowState(7, 2, 8, {"a": 1.5, "b": None}, {"a": 9})),
        ChangedRow("k3", 6, {"o2": 5}, ("o2", 5), RowState(1, 4, 4)),
        ChangedRow("k4", 9, {"o2": 6}, ("o2", 6), RowState(3, clock=3, values={"b": b"y"})),
    ]


def test_the_example_is_right():
    packed = across(pack_rows(("a", "b"), example()))
    check_rows(packed)
    assert all(map(same, unpack_rows(packed), example()))


HUGE = MAX_INTEGER + 1
BREAKS: dict[str, dict[str, Any]] = {
    "a column too short": {"columns": [[1, 1.5, None], ["x", None, None, b"y"]]},
    "a column too long": {"columns": [[1, 1.5, None, 1, 1], ["x", None, None, b"y"]]},
    "a column too few": {"columns": [[1, 1.5, None, None]]},
    "a column without a name": {"fields": ["a"]},
    "a field twice": {"fields": ["a", "a"]},
    "a key too few": {"keys": ["k1", "k2", "k3"]},
    "a key twice": {"keys": ["k1", "k1", "k3", "k4"]},
    "a key that is a list": {"keys": ["k1", [], "k3", "k4"]},
    "a key that is a map": {"keys": ["k1", {}, "k3", "k4"]},
    "a key that is a bool": {"keys": ["k1", True, "k3", "k4"]},
    "a key that is a float": {"keys": ["k1", 1.0, "k3", "k4"]},
    "no key": {"keys": ["k1", None, "k3", "k4"]},
    "a seq too few": {"seqs": [3, 2, 1]},
    "a seq twice": {"seqs": [3, 0, 1, 3]},
    "a seq that falls": {"seqs": [3, -1, 1, 3]},
    "a seq of zero": {"seqs": [0, 2, 1, 3]},
    "a seq too great": {"seqs": [3, 2, 1, MAX_INTEGER]},
    "a clock below zero": {"clocks": [-1, 2, 1, 3]},
    "a clock too great": {"clocks": [9, HUGE, 1, 3]},
    "an origin that is not there": {"dot_origins": [0, 3, 1, 1]},
    "an origin below zero": {"dot_origins": [0, -1, 1, 1]},
    "an origin too short": {"origins": ["o1", "", "o3"]},
    "an origin too long": {"origins": ["o1", "o" * 17, "o3"]},
    "an origin with a NUL": {"origins": ["o1", "o\0", "o3"]},
    "an origin twice": {"origins": ["o1", "o1", "o3"]},
    "a counter of zero": {"dot_counters": [3, 0, 5, 6]},
    "a counter below zero": {"dot_counters": [3, -4, 5, 6]},
    "a counter too great": {"dot_counters": [3, HUGE, 5, 6]},
    "more dots of no row": {"more_dots": {4: {0: 2}}},
    "more dots of no origin": {"more_dots": {1: {3: 2}}},
    "more dots of the first one's origin": {"more_dots": {1: {1: 2}}},
    "more dots of zero": {"more_dots": {1: {0: 0}}},
    "more dots too great": {"more_dots": {1: {0: HUGE}}},
    "born in no row": {"born": {4: (2, 1)}},
    "born at no origin": {"born": {1: (3, 1)}},
    "born below zero": {"born": {1: (2, -1)}},
    "born too late": {"born": {1: (2, HUGE)}},
    "inserted in no row": {"inserted": {4: 7}},
    "inserted below zero": {"inserted": {1: -1}},
    "inserted too late": {"inserted": {1: HUGE}},
    "deleted in no row": {"deleted": {-1: 2}},
    "deleted before never": {"deleted": {1: -2}},
    "deleted too late": {"deleted": {1: HUGE}},
    "a field's clock in no row": {"field_clocks": {9: {0: 9}}},
    "a clock of no field": {"field_clocks": {1: {2: 9}}},
    "a field's clock below zero": {"field_clocks": {1: {0: -1}}},
    "a field's clock too great": {"field_clocks": {1: {0: HUGE}}},
    "partial in no row": {"partial": {4: [1]}},
    "partial with no field": {"partial": {3: [2]}},
    "a value that is a list": {"columns": [[1, [1], None, None], ["x", None, None, b"y"]]},
    "a value that is a map": {"columns": [[1, {}, None, None], ["x", None, None, b"y"]]},
    "a live row with a field from before its delete": {"deleted": {1: 8, 2: 4}, "inserted": {1: 20}},
    "a dead row with its fields": {"deleted": {0: 9, 1: 2, 2: 4}},
}


@pytest.mark.parametrize("change", BREAKS.values(), ids=BREAKS.keys())
def test_one_thing_wrong_is_refused(change):
    with pytest.raises((RemoteProtocolError, msgspec.ValidationError)):
        check_rows(across(msgspec.structs.replace(pack_rows(("a", "b"), example()), **change)))


@pytest.mark.parametrize("where", ["clocks", "inserted", "deleted", "field_clocks"])
def test_a_clock_that_passes_leaves_room_for_the_next_write(where):
    """A row with the last clock of all could never be written again: the poster's next clock would not fit."""
    last = MAX_INTEGER
    state = {
        "clocks": RowState(last, clock=last, values={"a": 1, "b": 1}),
        "inserted": RowState(last, clock=1, values={"a": 1, "b": 1}),
        "deleted": RowState(1, last, last),
        "field_clocks": RowState(1, clock=1, values={"a": 1, "b": 1}, field_clocks={"a": last}),
    }[where]
    packed = pack_rows(("a", "b"), [ChangedRow("k", 1, {"o": 1}, ("o", 1), state)])
    try:
        check_rows(across(packed))
    except RemoteProtocolError:
        return
    (row,) = unpack_rows(packed)
    assert next_clock(0, row.state.latest()) <= MAX_INTEGER
