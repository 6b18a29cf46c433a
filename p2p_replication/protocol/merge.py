"""The join of two row states: commutative, associative, idempotent (a join semilattice; Shapiro et al., 2011)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from p2p_replication.protocol.field_merges import FieldMerge
from p2p_replication.protocol.row_state import DELETE, Past, RowState, order_of, same_value

NO_MERGES: Mapping[str, FieldMerge] = {}


class Joined(NamedTuple):
    state: RowState
    #: The result says nothing that the local state did not say.
    is_local: bool
    #: The result says nothing that the incoming state did not say.
    is_incoming: bool


def join(a: RowState, b: RowState, merges: Mapping[str, FieldMerge] = NO_MERGES) -> RowState:
    return join_into(a, b, merges).state


def join_into(local: RowState, incoming: RowState, merges: Mapping[str, FieldMerge] = NO_MERGES) -> Joined:
    """Join an incoming state into a local one, and tell which of the two the result equals.

    The greater ``inserted``, the greater ``deleted``, each field by the greater clock and, where clocks are equal,
    by the greater value, or as the field's own merge has it; then fields at or below ``deleted`` are dropped: a delete
    beats every edit of the life it ended, an insert after it starts anew.
    """
    inserted = max(local.inserted, incoming.inserted)
    deleted = max(local.deleted, incoming.deleted)
    is_local = inserted == local.inserted and deleted == local.deleted
    is_incoming = inserted == incoming.inserted and deleted == incoming.deleted
    mine, theirs = local.fields(), incoming.fields()
    fields: dict[str, tuple[int, Any]] = {}
    past: dict[str, tuple[int, ...]] = {}
    _take_past(past, DELETE, (local if local.deleted == deleted else incoming).past)
    for name in mine.keys() | theirs.keys():
        a, b = mine.get(name), theirs.get(name)
        winner = _later(a, b)
        keeps_a, keeps_b = winner is a, winner is b
        if a is not None and b is not None and a[0] == b[0] and same_value(a[1], b[1]):
            keeps_a = keeps_b = True
        elif a is not None and b is not None and a[0] == b[0] and name in merges:
            winner = (a[0], merges[name].join(a[1], b[1]))
            keeps_a, keeps_b = same_value(winner[1], a[1]), same_value(winner[1], b[1])
        if winner[0] <= deleted:
            # What is dropped must count as a difference to the side that still holds it.
            is_local = is_local and a is None
            is_incoming = is_incoming and b is None
            continue
        is_local = is_local and keeps_a
        is_incoming = is_incoming and keeps_b
        fields[name] = winner
        _take_past(past, name, (local if keeps_a else incoming).past)
    if is_local:
        return Joined(local, True, is_incoming)
    if is_incoming:
        return Joined(incoming, False, True)
    return Joined(RowState.of(inserted, deleted, fields, past), False, False)


def _take_past(into: dict[str, tuple[int, ...]], name: str, past: Past) -> None:
    if name in past:
        into[name] = past[name]


def _later(a: tuple[int, Any] | None, b: tuple[int, Any] | None) -> tuple[int, Any]:
    if a is None or b is None:
        winner = a or b
        assert winner is not None
        return winner
    if a[0] != b[0]:
        return a if a[0] > b[0] else b
    return a if order_of(a[1]) >= order_of(b[1]) else b
