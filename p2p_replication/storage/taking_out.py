"""Taking rows out of their tables although they are alive: their states stay in the ledger, parked.

What depends on them goes with them, and waits for them. Columns that do not travel are kept as well: nobody else has
them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from p2p_replication.models.ledger import EntryStatus
from p2p_replication.storage.applier import settle_entry, take_rows
from p2p_replication.storage.ledger import Entry, save_entries
from p2p_replication.storage.parking import MISSING_PARENT, forget_parked, keep_local_values, note_parked
from p2p_replication.storage.referrers import Row, references_to, referring
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.table import WireRow
from p2p_replication.storage.unlogged import unlogged
from p2p_replication.storage.versions import state_of, store_state

#: ``(reason, detail)`` of a parked row.
Reason = tuple[str, str]


class CannotLeave(Exception):
    """A row can't be taken out of its table: something refers to it that can't be taken out with it."""


def take_out(database: ReplicaDatabase, rows: Mapping[Row, Reason]) -> None:
    """Take rows out of their tables, with all rows that refer to them. Inside a write transaction.

    Args:
        rows: why each of them has to go, for people.

    Raises CannotLeave, having written nothing, and Busy if the application has its hands on one of the rows.
    """
    leaving: dict[Row, Reason] = {}
    entries: dict[Row, Entry] = {}
    present: dict[Row, WireRow] = {}
    wave = dict(rows)
    while wave:
        leaving |= wave
        by_stream: dict[int, list[str]] = defaultdict(list)
        for number, key in wave:
            by_stream[number].append(key)
        wave = {}
        for number, keys in by_stream.items():
            stream = database.by_number[number]
            found, table_rows = take_rows(database, stream, keys)
            entries |= {Row(number, key): entry for key, entry in found.items()}
            present |= {Row(number, key): row for key, row in table_rows.items()}
            wave |= {row: why for row, why in _dependants(database, stream, keys).items() if row not in leaving}
    if unknown := leaving.keys() - entries.keys():
        raise CannotLeave(f"{_names(database, unknown)} was written past the triggers")
    _write(database, leaving, entries, present)


def _dependants(database: ReplicaDatabase, stream: StreamStore, keys: Sequence[str]) -> dict[Row, Reason]:
    found: dict[Row, Reason] = {}
    for reference in references_to(database, stream):
        referrers = referring(stream, reference, keys)
        if referrers and reference.stream is None:
            label = reference.child._meta.label
            raise CannotLeave(f"rows of {label}, which does not replicate, refer to {stream.label} {referrers[0][1]}")
        for child, parent in referrers:
            assert reference.stream is not None
            found[Row(reference.stream.id, child)] = (MISSING_PARENT, f"{stream.label} {parent}")
    return found


def _write(
    database: ReplicaDatabase,
    leaving: Mapping[Row, Reason],
    entries: Mapping[Row, Entry],
    present: Mapping[Row, WireRow],
) -> None:
    by_stream: dict[int, list[Row]] = defaultdict(list)
    for row in leaving:
        by_stream[row.stream].append(row)
    # Those found last refer to those found first.
    for number, rows in reversed(by_stream.items()):
        stream = database.by_number[number]
        there = [row.key for row in rows if row in present]
        kept = stream.table.read_local(there)
        with unlogged(database):
            stream.table.delete(list(reversed(there)))
        reasons: dict[str, Reason] = {}
        ended: list[str] = []
        for row in rows:
            entry = entries[row]
            if entry.status == EntryStatus.PRESENT:
                store_state(stream, entry, state_of(stream, entry, present.get(row)), EntryStatus.PARKED)
                reasons[row.key] = leaving[row]
            elif not entry.alive:
                ended.append(row.key)
                settle_entry(stream, entry, state_of(stream, entry, None))
            entry.digest = b""
        save_entries(database.connection, number, [entries[row] for row in rows])
        if ended:
            forget_parked(database, stream, ended)
        note_parked(database, stream, reasons)
        keep_local_values(database, stream, {key: values for key, values in kept.items() if key not in ended})
        database.note_changed([stream.label])


def _names(database: ReplicaDatabase, rows: set[Row]) -> str:
    return ", ".join(f"{database.by_number[row.stream].label} {row.key}" for row in sorted(rows)[:3])
