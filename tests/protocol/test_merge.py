"""The join of row states is a semilattice, and tells truthfully which side its result equals."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from p2p_replication.protocol.clock import ADOPTED
from p2p_replication.protocol.merge import join, join_into
from p2p_replication.protocol.row_state import RowState, order_of, same_value
from tests.protocol.strategies import ODD_VALUES, clocks, quick, states, values


@quick
@given(states(), states(), states())
def test_the_join_is_associative(a, b, c):
    assert join(join(a, b), c) == join(a, join(b, c))


@quick
@given(states(), states())
def test_the_join_is_commutative(a, b):
    assert join(a, b) == join(b, a)


@quick
@given(states())
def test_the_join_is_idempotent(a):
    result = join_into(a, a)
    assert result.state == a
    assert result.is_local and result.is_incoming


@quick
@given(states(), states())
def test_the_join_contains_both_sides(a, b):
    both = join(a, b)
    assert join(both, a) == both
    assert join(both, b) == both
    assert both.latest() >= max(both.inserted, both.deleted)


@quick
@given(states(), states())
def test_the_flags_tell_the_truth(local, incoming):
    result = join_into(local, incoming)
    assert result.is_local == (result.state == local)
    assert result.is_incoming == (result.state == incoming)


@quick
@given(states(), states())
def test_fields_at_or_below_the_delete_are_gone(a, b):
    result = join(a, b)
    assert all(clock > result.deleted for clock, _ in result.fields().values())


@quick
@given(st.dictionaries(st.sampled_from("abc"), st.tuples(clocks, values)), clocks, clocks)
def test_what_no_correct_peer_says_is_put_right_by_the_join(fields, inserted, deleted):
    """A field below the state's own delete vanishes, whichever side it comes from."""
    wrong = RowState.of(inserted, deleted, fields)
    right = RowState(inserted, deleted, max(inserted, deleted))
    for result in (join(wrong, right), join(right, wrong), join(wrong, wrong)):
        assert result.fields().keys() == {name for name, (clock, _) in fields.items() if clock > deleted}


def test_values_that_python_calls_equal_are_told_apart():
    for a, b in itertools.permutations([True, 1, 1.0], 2):
        assert a == b
        assert not same_value(a, b)
        one, other = (RowState(1, clock=1, values={"f": value}) for value in (a, b))
        assert one != other
        assert join(one, other) == join(other, one)
    # Zero has one value: SQLite keeps no sign of it.
    assert same_value(0.0, -0.0) and order_of(0.0) == order_of(-0.0)
    assert same_value(float("nan"), float("nan"))
    assert not same_value("é", "e\u0301")


def test_every_two_values_have_one_order():
    ordered = sorted(ODD_VALUES, key=order_of)
    for a, b in itertools.combinations(ordered, 2):
        assert same_value(a, b) == (order_of(a) == order_of(b))
        early, late = (RowState(1, clock=1, values={"f": value}) for value in (a, b))
        assert same_value(join(late, early).values["f"], b)


def test_a_row_that_was_there_before_replication_gives_way_to_any_write():
    adopted = RowState(ADOPTED, clock=ADOPTED, values={"f": "zzz"})
    assert adopted.alive
    assert join(adopted, RowState(ADOPTED, clock=5, values={"f": "a"})).values == {"f": "a"}
    assert not join(adopted, RowState(ADOPTED, ADOPTED, ADOPTED)).alive
    assert join(adopted, RowState(ADOPTED, ADOPTED, ADOPTED)).values == {}


def test_a_delete_ends_a_life_and_an_insert_begins_another():
    row = RowState(1, clock=1, values={"f": "old", "g": "old"})
    gone = join(row, RowState(1, 4, 4))
    assert not gone.alive
    assert join(gone, RowState(1, clock=3, values={"f": "too early", "g": "old"})) == gone
    again = join(gone, RowState(6, 4, 6, {"f": "new", "g": "new"}))
    assert again.alive
    assert again.values == {"f": "new", "g": "new"}


def test_concurrent_edits_of_different_fields_both_stay():
    base = RowState(1, clock=1, values={"f": "0", "g": "0"})
    left = RowState(1, clock=1, values={"f": "L", "g": "0"}, field_clocks={"f": 7})
    right = RowState(1, clock=1, values={"f": "0", "g": "R"}, field_clocks={"g": 5})
    result = join_into(join(base, left), right)
    assert result.state.values == {"f": "L", "g": "R"}
    assert not result.is_local and not result.is_incoming


@quick
@given(states())
def test_the_compact_form_says_the_same(state):
    again = RowState.of(state.inserted, state.deleted, state.fields())
    assert again == state
    assert again.alive == state.alive
    assert all(clock != again.clock for clock in again.field_clocks.values())
    assert again.latest() == max([state.inserted, state.deleted, *(clock for clock, _ in state.fields().values())])
