"""What the application's writes make of fields with a declared merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2p_replication.models.ledger import EntryStatus
from p2p_replication.protocol.clock import ADOPTED
from p2p_replication.protocol.row_state import same_value
from p2p_replication.storage.ledger import Entry
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.table import WireRow
from p2p_replication.storage.unlogged import unlogged


def merged_states(
    stream: StreamStore, entry: Entry, row: WireRow | None, written: set[str], *, is_born: bool
) -> dict[str, Any]:
    """Return the states of a row's fields that merge, after writes that are folded into its entry.

    Args:
        written: the fields that were written.
        is_born: the row is a new one.
    """
    if not stream.merges or row is None or not entry.alive:
        return {}
    values, origin = dict(zip(stream.table.names, row, strict=True)), stream.database.start
    is_present = entry.status == EntryStatus.PRESENT
    states: dict[str, Any] = {}
    for name, merge in stream.merges.items():
        value = values[name]
        known = (entry.merged if is_present else entry.held).get(name)
        if is_born:
            states[name] = merge.initial(value) if entry.inserted == ADOPTED else merge.inserted(value, origin)
        elif known is None and name not in (entry.merged if is_present else entry.held):
            states[name] = merge.initial(value)
        elif name in written:
            before = merge.shown(known) if is_present else entry.merged.get(name, value)
            states[name] = merge.written(known, before, value, origin)
        else:
            states[name] = known
    return states


def differing_values(stream: StreamStore, entry: Entry, row: WireRow) -> dict[str, Any]:
    """Return what a row's fields that merge must be, where the table has something else."""
    if not stream.merges:
        return {}
    values = dict(zip(stream.table.names, row, strict=True))
    shown = {name: stream.merges[name].shown(state) for name, state in entry.merged.items() if name in stream.merges}
    return {name: value for name, value in shown.items() if not same_value(value, values[name])}


def correct_rows(
    database: ReplicaDatabase, stream: StreamStore, corrections: Mapping[str, Mapping[str, Any]]
) -> set[str]:
    """Write merged values over what the application wrote; return the keys of rows that it has locked again."""
    if not corrections:
        return set()
    table = stream.table
    locked = database.vendor.lock_rows(database.connection, table.name, table.key_column, list(corrections))
    with unlogged(database):
        for key in corrections.keys() & locked:
            table.update(key, corrections[key])
    return corrections.keys() - locked
