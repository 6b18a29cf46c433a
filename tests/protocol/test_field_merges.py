"""Declared merges are joins, and row states with them are a semilattice still."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p_replication.protocol.clock import NEVER
from p2p_replication.protocol.field_merges import Counter, FieldMerge, Max, Merged, Min, Union
from p2p_replication.protocol.json_text import canonical_json
from p2p_replication.protocol.merge import join, join_into
from p2p_replication.protocol.row_state import RowState, same_value
from tests.protocol.strategies import clocks, quick, values
from tests.testapp.tallies import longer, merged_dict

whole = st.integers(-5, 5)
money = st.decimals(-5, 5, places=2, allow_nan=False).map(lambda d: format(d, "f"))
json_texts = st.sampled_from(
    ["[]", "[1]", "[1, 2]", '["a"]', '{"a": 1}', "1", "[[1], [2]]", "[1.50]", "[1.5, 1]", '"a"', "no json", "[1"]
).map(canonical_json)
origins = st.sampled_from(["a", "b", "c"])


@st.composite
def counted(draw: st.DrawFn, merge: FieldMerge, numbers: Any) -> Any:
    """A state that some replicas have come to."""
    state = draw(st.builds(merge.initial, numbers) | st.builds(merge.inserted, numbers, origins))
    for origin, number in draw(st.lists(st.tuples(origins, numbers), max_size=3)):
        state = merge.written(state, merge.shown(state), number, origin)
    return state


INTEGERS, DECIMALS = Counter().of("integer"), Counter().of("decimal(8,2)")
KINDS: list[tuple[FieldMerge, Any]] = [
    (Max().of("integer"), st.none() | whole | values),
    (Min().of("integer"), st.none() | whole | values),
    (Max().of("decimal(8,2)"), st.none() | money | values),
    (Min().of("date"), st.none() | st.dates().map(str) | values),
    (Union().of("json"), (st.none() | json_texts | values).map(Union().initial)),
    (INTEGERS, counted(INTEGERS, whole)),
    (DECIMALS, counted(DECIMALS, money)),
    (Merged("longer", longer).of("text"), st.none() | st.text("ab", min_size=1, max_size=3)),
    (Merged("merged_dict", merged_dict).of("json"), st.dictionaries(st.sampled_from("ab"), st.integers(1, 4)).map(
        lambda d: canonical_json(str(d).replace("'", '"')))),
]  # fmt: skip
kinds = pytest.mark.parametrize(("merge", "states"), KINDS, ids=[f"{m.name} of {m.wire_type}" for m, _ in KINDS])


@kinds
@quick
@given(st.data())
def test_a_merge_is_a_join(merge, states, data):
    a, b, c = (data.draw(states) for _ in range(3))
    assert same_value(merge.join(a, b), merge.join(b, a))
    assert same_value(merge.join(a, merge.join(b, c)), merge.join(merge.join(a, b), c))
    assert same_value(merge.join(a, a), a)
    assert merge.is_state(merge.join(a, b))


@kinds
@quick
@given(st.data())
def test_row_states_with_a_merge_are_a_semilattice(merge, states, data):
    def row() -> RowState:
        deleted = data.draw(st.just(NEVER) | clocks)
        clock = data.draw(clocks)
        fields = {"f": (clock, data.draw(states))} if clock > deleted else {}
        return RowState.of(data.draw(clocks), deleted, fields)

    a, b, c = row(), row(), row()
    merges = {"f": merge}
    assert join(a, b, merges) == join(b, a, merges)
    assert join(a, join(b, c, merges), merges) == join(join(a, b, merges), c, merges)
    result = join_into(a, b, merges)
    assert (result.is_local, result.is_incoming) == (result.state == a, result.state == b)


@pytest.mark.parametrize("merge", [INTEGERS, DECIMALS], ids=["integer", "decimal"])
@quick
@given(st.data())
def test_what_each_adds_is_added_up(merge, data):
    def number(value: int) -> Any:
        return value if merge is INTEGERS else f"{value}.00"

    start = merge.inserted(number(10), "a")
    added, joined = 0, start
    for origin in data.draw(st.permutations("bcd")):
        state, expected = start, 10
        for step in data.draw(st.lists(whole, max_size=4)):
            state = merge.written(state, merge.shown(state), number(expected + step), origin)
            expected += step
            assert same_value(merge.shown(state), number(expected))
        added += expected - 10
        joined = merge.join(joined, state)
    assert same_value(merge.shown(joined), number(10 + added))


def test_what_was_there_on_both_sides_counts_once():
    merge = Counter().of("integer")
    assert merge.shown(merge.join(merge.initial(7), merge.initial(7))) == 7


@pytest.mark.parametrize(
    "state",
    [None, 1, b"{}", "", "{}", "[]", "no json", '{"a": 1}', '{"a": [1]}', '{"a": ["1", 1]}', '{"a": [1, 1.5]}',
     '{"a": [1, "1e999999999"]}', '{"a": [1, "NaN"]}', '{"a": [true, 1]}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_state_of_a_counter(state):
    assert not Counter().of("integer").is_state(state)


def test_numbers_are_compared_as_numbers_and_texts_as_texts():
    assert Max().of("decimal(8,2)").join("9.00", "10.00") == "10.00"
    assert Max().of("text").join("9.00", "10.00") == "9.00"
    assert Max().of("integer").join(None, -1) == Min().of("integer").join(None, -1) == -1


def test_a_set_is_sorted_and_holds_each_item_once():
    merge = Union().of("json")
    assert merge.initial(canonical_json('[2, 1, 1, {"b": 1, "a": 0.10}]')) == '[1, 2, {"a": 0.10, "b": 1}]'
    assert merge.join("[1, 2]", "[2, 3]") == "[1, 2, 3]"
    assert merge.join(None, "[]") == "[]"


def test_a_function_that_fails_or_returns_something_else_loses_to_the_greater_value(caplog):
    def failing(a: Any, b: Any) -> Any:
        return 1 / 0 if a == "a" else Decimal(1)

    merge = Merged("failing", failing).of("text")
    assert merge.join("a", "b") == merge.join("b", "b") == "b"
    assert "the greater one is taken" in caplog.text
    assert Merged("odd", lambda a, b: {1}).of("text").join("a", "b") == "b"
