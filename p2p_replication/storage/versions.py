"""Between ledger entries and row states: what a row's version says, with its values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from p2p_replication.models.ledger import EntryStatus
from p2p_replication.protocol.clock import is_too_far_ahead
from p2p_replication.protocol.row_state import DELETE, NOTHING, RowState
from p2p_replication.storage.ledger import Entry, set_clocks
from p2p_replication.storage.replica_database import StreamStore
from p2p_replication.storage.table import WireRow


def state_of(stream: StreamStore, entry: Entry, row: WireRow | None) -> RowState:
    """Return the state of an entry whose row in the table is ``row`` (None where its values are held)."""
    if entry.status != EntryStatus.PRESENT or row is None:
        return RowState(entry.inserted, entry.deleted, entry.clock, entry.held, entry.field_clocks, entry.past)
    clocks, past = entry.field_clocks, entry.past
    if entry.layout == stream.full_layout:
        values = dict(zip(stream.table.names, row, strict=True))
    else:
        known = set(stream.layout_fields(entry.layout))
        values = {name: value for name, value in zip(stream.table.names, row, strict=True) if name in known}
        # Without those of fields that a migration has removed since.
        clocks = {name: clock for name, clock in clocks.items() if name in values or name in entry.held}
        past = {name: seen for name, seen in past.items() if name in values or name in entry.held or name == DELETE}
    for name, merge in stream.merges.items():
        if name in values:
            values[name] = entry.merged[name] if name in entry.merged else merge.initial(values[name])
    if entry.held:
        values.update(entry.held)
    return RowState(entry.inserted, entry.deleted, entry.clock, values, clocks, past)


def store_state(
    stream: StreamStore, entry: Entry, state: RowState, status: EntryStatus, awaited: Collection[str] = ()
) -> None:
    """Write a state into an entry: clocks, layout, what is held. The digest is the caller's, who has the row.

    Args:
        awaited: fields that are null in the table for now (``TableChanges.awaited``).
    """
    if stream.merges:
        entry.merged = _merged(stream, entry, state, status)
    entry.inserted, entry.deleted, entry.status = state.inserted, state.deleted, status
    entry.past = state.past
    known = stream.table.codecs
    if status == EntryStatus.PRESENT:
        if not awaited and state.values.keys() <= known.keys():
            entry.held = NOTHING
        else:
            entry.held = {name: value for name, value in state.values.items() if name not in known or name in awaited}
        if len(state.values) - len(entry.held) + len(awaited) == len(known):
            entry.layout = stream.full_layout
        else:
            entry.layout = stream.layout_id(tuple(name for name in known if name in state.values))
    else:
        entry.held = dict(state.values)
        # The table may go on to have an older version of a parked row: its digest tells what is written there unseen.
        if status != EntryStatus.PARKED or not entry.digest:
            entry.layout, entry.digest = stream.full_layout, b""
    if state.field_clocks:
        set_clocks(entry, {name: state.clock_of(name) for name in state.values})
    else:
        entry.clock, entry.field_clocks = state.clock, NOTHING


def _merged(stream: StreamStore, entry: Entry, state: RowState, status: EntryStatus) -> Mapping[str, Any]:
    """Return what an entry keeps of its fields with a declared merge, before it gets another state."""
    if status == EntryStatus.PRESENT:
        return {name: state.values[name] for name in stream.merges if name in state.values}
    if status == EntryStatus.PARKED and entry.status == EntryStatus.PRESENT:
        # The older row stays in the table: what the application adds to it is told from what it has now.
        return {name: stream.merges[name].shown(value) for name, value in entry.merged.items() if name in stream.merges}
    return entry.merged if status == EntryStatus.PARKED else NOTHING


def is_ahead(stream: StreamStore, entry: Entry) -> bool:
    """Tell whether a row is parked and its state further ahead of the clock here than is allowed."""
    if entry.status != EntryStatus.PARKED:
        return False
    latest, database = state_of(stream, entry, None).latest(), stream.database
    return is_too_far_ahead(latest, database.now_ms(), database.max_skew_ms)
