"""Posting: committed change log entries become versions in the ledger (DESIGN 4)."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from p2p_replication.models.ledger import BLOCK_BITS, ChangeLogEntry, EntryStatus, Operation
from p2p_replication.models.replica import Replica
from p2p_replication.protocol.clock import ADOPTED, NEVER, milliseconds_of, next_clock
from p2p_replication.protocol.conflicts import begin_life, end_life, overwrite
from p2p_replication.protocol.row_state import DELETE
from p2p_replication.storage.conflict_log import ConflictLog
from p2p_replication.storage.digests import differing
from p2p_replication.storage.ledger import Entry, chunks, load_entries, marks, save_entries, set_clocks
from p2p_replication.storage.merge_states import correct_rows, differing_values, merged_states
from p2p_replication.storage.parking import BUSY, busy_keys, forget_parked, note_parked
from p2p_replication.storage.renamed_keys import log_referring_rows
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.stored_vectors import give_counter
from p2p_replication.storage.table import WireRow
from p2p_replication.storage.versions import state_of, store_state

logger = logging.getLogger("p2p_replication.storage")

LOG = ChangeLogEntry._meta.db_table
REPLICA = Replica._meta.db_table
#: An update of no field: the row (whose local primary key stayed) has this key now, and had another one before.
RENAMED = Operation.UPDATE.value


class LogEntry(NamedTuple):
    id: int
    stream: int
    layout: int
    key: str
    operation: int
    columns: int
    block: int
    wall: int

    @property
    def is_renaming(self) -> bool:
        return self.operation == RENAMED and not self.columns


@dataclass
class Posted:
    """What a round of posting did."""

    #: Labels of models that got new versions.
    labels: set[str] = field(default_factory=set)
    entries: int = 0
    #: The log held more than one round takes.
    more: bool = False


def post(database: ReplicaDatabase) -> Posted:
    """Post one slice of the log, in log order, in one transaction. Nothing is written if the log is empty."""
    if not log_is_waiting(database):
        return Posted()
    with database.writing():
        began = time.monotonic()
        database.check_streams()
        limit = database.budget.rows()
        entries = _read_log(database, f"ORDER BY id LIMIT {limit + 1}", [])
        more, entries = len(entries) > limit, entries[:limit]
        posted = post_entries(database, entries)
        if more:
            _note_backlog(database)
        # By their numbers: on PostgreSQL a lower one may be committed later.
        _delete_log(database, entries)
        posted.more = more
        posted.more |= any(entry.is_renaming for entry in entries)
        database.budget.measured(len(entries), time.monotonic() - began)
    return posted


def post_all(database: ReplicaDatabase, rounds: int = 1_000_000) -> Posted:
    """Post until the log is empty (or so many rounds are done)."""
    total = Posted(more=True)
    while total.more and rounds > 0:
        posted = post(database)
        total.labels |= posted.labels
        total.entries += posted.entries
        total.more = posted.more
        rounds -= 1
    return total


def log_is_waiting(database: ReplicaDatabase) -> bool:
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {LOG})")
        return bool(cursor.fetchone()[0])


def pending_keys(database: ReplicaDatabase, stream: StreamStore) -> set[str]:
    """Return the keys with entries in the log: their rows in the table are newer than their versions."""
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT key FROM {LOG} WHERE stream = %s", [stream.id])
        return {record[0] for record in cursor.fetchall()}


def post_keys(database: ReplicaDatabase, stream: StreamStore, keys: Iterable[str]) -> Posted:
    """Post what waits for these keys, inside the caller's write transaction: the applier does so before it joins."""
    wanted = pending_keys(database, stream) & set(keys)
    if not wanted:
        return Posted()
    entries: list[LogEntry] = []
    for chunk in chunks(sorted(wanted)):
        entries += _read_log(database, f"WHERE stream = %s AND key IN ({marks(len(chunk))})", [stream.id, *chunk])
    entries.sort()
    posted = post_entries(database, entries)
    _delete_log(database, entries)
    return posted


def _delete_log(database: ReplicaDatabase, entries: Sequence[LogEntry]) -> None:
    with database.connection.cursor() as cursor:
        for chunk in chunks(entries):
            cursor.execute(f"DELETE FROM {LOG} WHERE id IN ({marks(len(chunk))})", [entry.id for entry in chunk])


def _note_backlog(database: ReplicaDatabase) -> None:
    """Remember how far the log reaches while it is posted in slices.

    The rows of this slice were read with every committed write in them, so their digests already hold writes whose
    entries come in later slices: up to this id a digest can't tell what an INSERT OR REPLACE changed.
    """
    with database.connection.cursor() as cursor:
        cursor.execute(f"UPDATE {REPLICA} SET unsettled_through = (SELECT MAX(id) FROM {LOG})")


def _read_log(database: ReplicaDatabase, tail: str, params: Sequence[Any]) -> list[LogEntry]:
    with database.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id, stream, layout, key, operation, columns, block, wall FROM {LOG} {tail}", list(params)
        )
        return [LogEntry(*record) for record in cursor.fetchall()]


def post_entries(database: ReplicaDatabase, entries: Sequence[LogEntry]) -> Posted:
    """Turn log entries (in log order) into versions. Entries of a stream that no longer replicates are dropped."""
    entries = database.timed(entries)
    posted = Posted(entries=len(entries))
    by_stream: dict[int, dict[str, list[LogEntry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        if type(entry.key) is not str or "\0" in entry.key:
            why = "its key is no text that every database takes (UTF-8, without NUL)"
            logger.error("a row of stream %s can't replicate, as %s: %r", entry.stream, why, entry.key)
            continue
        by_stream[entry.stream][entry.key].append(entry)
    for number, by_key in by_stream.items():
        stream = database.by_number.get(number)
        if stream is not None and _post_stream(database, stream, by_key):
            posted.labels.add(stream.label)
    database.note_changed(posted.labels)
    return posted


def _post_stream(database: ReplicaDatabase, stream: StreamStore, by_key: dict[str, list[LogEntry]]) -> bool:
    keys = list(by_key)
    ledger = load_entries(database.connection, stream.id, keys)
    rows = stream.table.read(keys)
    unsettled = _unsettled_through(database)
    parked = [key for key, entry in ledger.items() if entry.status == EntryStatus.PARKED]
    ending = busy_keys(database, stream, [key for key in parked if not ledger[key].alive])
    if renamed := [key for key, log in by_key.items() if any(item.is_renaming for item in log)]:
        log_referring_rows(database, stream, renamed)
    changed: list[Entry] = []
    corrections: dict[str, dict[str, Any]] = {}
    for key in ending:
        _note_ended(stream, ledger[key], rows.get(key), by_key[key])
    for key, log in by_key.items():
        entry = fold(stream, key, ledger.get(key), rows.get(key), log, unsettled, key in ending)
        if entry is not None:
            changed.append(entry)
            if entry.status == EntryStatus.PRESENT and (other := differing_values(stream, entry, rows[key])):
                corrections[key] = other
    if not changed:
        return bool(ending)  # Nothing new, but the lock that the deletes wait for has ended: they are tried again.
    give_dots(database, stream, changed)
    busy = correct_rows(database, stream, corrections)
    for entry in changed:
        if entry.key in busy:
            store_state(stream, entry, state_of(stream, entry, rows[entry.key]), EntryStatus.PARKED)
            entry.merged = stream.merged_values(rows[entry.key])
            entry.digest = stream.digest(entry, rows[entry.key])
    save_entries(database.connection, stream.id, changed)
    note_parked(database, stream, dict.fromkeys(busy, (BUSY, "its merged value could not be written yet")))
    if ended := [key for key in parked if ledger[key].status != EntryStatus.PARKED]:
        forget_parked(database, stream, ended)
    return True


def _unsettled_through(database: ReplicaDatabase) -> int:
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT unsettled_through FROM {REPLICA}")
        return int(cursor.fetchone()[0])


def _note_ended(stream: StreamStore, entry: Entry, row: WireRow | None, log: Sequence[LogEntry]) -> None:
    """Keep edits that a delete, which waited for their lock, ends: ``fold`` does not count them."""
    edits = [item for item in log if item.operation == Operation.UPDATE and not item.is_renaming]
    if row is None:
        return
    if not edits:
        return
    assert row is not None
    fields = set[str]().union(*(_written_fields(stream, entry, item, b"", row) for item in edits))
    clock = next_clock(edits[-1].wall, stream.database.mark, NEVER)
    conflicts = ConflictLog(stream)
    conflicts.note_ended(entry.key, dict(zip(stream.table.names, row, strict=True)), fields, clock, entry.deleted)
    conflicts.write()


def give_dots(database: ReplicaDatabase, stream: StreamStore, entries: Sequence[Entry], *, keep: bool = False) -> None:
    """Give each entry the next counter of this origin (``keep``: beside the dots it has)."""
    counter = database.take_sequence(len(entries))
    for entry in entries:
        dots = entry.dots() if keep else {}
        entry.take_dots({database.origin: counter, **{o: c for o, c in dots.items() if o != database.origin}})
        entry.own_counter = entry.seq = counter
        if not entry.born_origin:
            entry.born_origin, entry.born_counter = database.origin, counter
        counter += 1
    give_counter(database, stream, counter - 1)


def fold(
    stream: StreamStore,
    key: str,
    entry: Entry | None,
    row: WireRow | None,
    log: Sequence[LogEntry],
    unsettled: int = 0,
    is_ending: bool = False,
) -> Entry | None:
    """Fold a row's log entries into its ledger entry.

    Args:
        unsettled: digests mean nothing to log entries up to this one.
        is_ending: a peer's delete waits for the application's lock: edits made under it are edits of the life that
            has ended.

    Returns the changed entry, still without a dot, or None if there is nothing to say: the row was never seen by
    anybody, or a later part of the log says what became of it.
    """
    if entry is None:
        entry = Entry(key, inserted=NEVER, deleted=NEVER, clock=NEVER, layout=stream.full_layout, is_new=True)
    before = entry.digest
    names: tuple[str, ...] = ()
    if entry.alive and not entry.is_held:
        names = stream.layout_fields(entry.layout)
    clocks = {name: entry.field_clocks.get(name, entry.clock) for name in (*names, *entry.held)}
    past = dict(entry.past)
    mark, latest, given = stream.database.mark, entry.latest(), NEVER
    written: set[str] = set()
    touched = is_born = False
    joined = stream.merges.keys() & (entry.merged if entry.status == EntryStatus.PRESENT else entry.held).keys()
    for item in log:
        clock = next_clock(item.wall, mark, latest)
        alive = entry.inserted > entry.deleted
        if item.operation in (Operation.EVICT, Operation.DELETE):
            if not alive or (item.operation == Operation.EVICT and (row is not None or item is not log[-1])):
                continue
            _delete(entry, clocks, past, clock)
        elif row is None:
            continue  # A later entry of the log says what became of the row.
        elif not alive:
            if is_ending and item.operation == Operation.UPDATE:
                continue
            if item.operation == Operation.ADOPT and entry.is_new and entry.deleted == NEVER:
                clock = ADOPTED
            _insert(stream, entry, clocks, past, clock)
            is_born, joined = True, set(stream.merges)
        else:
            fields = _written_fields(stream, entry, item, before if item.id > unsettled else b"", row)
            if not fields:
                continue
            if milliseconds_of(given) >= item.wall:
                clock = given  # One clock for edits of one millisecond: nobody has seen the earlier one.
            for name in fields:
                # A field that is new to the row was filled by a migration, which every replica runs: it gets a clock
                # that is the same on all of them and older than any edit.
                is_filled = item.operation == Operation.ADOPT and name not in clocks
                if name in joined:
                    continue  # What is written is joined with what is there, at the same clock.
                overwrite(clocks, past, name, entry.inserted if is_filled else clock)
            written |= fields
        latest = given = clock
        touched = True
    if not touched:
        return None
    if not entry.alive and row is not None:
        # Put back by a trigger of the application's that ran before ours logged the delete (or a later entry says it).
        _insert(stream, entry, clocks, past, next_clock(0, mark, latest))
        is_born = True
    if entry.alive and row is None and not entry.is_held:
        return None
    entry.past = past
    states = merged_states(stream, entry, row, written, is_born=is_born)
    _settle(stream, entry, row, clocks, written, states)
    return entry


def _insert(
    stream: StreamStore, entry: Entry, clocks: dict[str, int], past: dict[str, tuple[int, ...]], clock: int
) -> None:
    """Begin a new life of the row."""
    if clocks:
        # Edits that the delete did not know of end with it, whoever still holds them.
        _delete(entry, clocks, past, max(entry.deleted, *clocks.values()))
    begin_life(clocks, past, stream.table.names, entry.deleted, clock)
    entry.inserted = clock
    entry.born_origin = entry.born_counter = 0
    entry.held = {}


def _delete(entry: Entry, clocks: dict[str, int], past: dict[str, tuple[int, ...]], clock: int) -> None:
    end_life(clocks, past, entry.deleted, clock)
    entry.deleted = clock
    entry.held = {}


def _written_fields(stream: StreamStore, entry: Entry, item: LogEntry, before: bytes, row: WireRow) -> set[str]:
    """Return the names of the fields that a log entry over a live row has written."""
    if item.operation == Operation.UPDATE or item.columns:
        fields = stream.layout_fields(item.layout)[item.block * BLOCK_BITS :]
        written = {name for i, name in enumerate(fields[:BLOCK_BITS]) if item.columns >> i & 1}
        return written & set(stream.table.names)
    # INSERT OR REPLACE wrote every field anew: those whose content is the same were not changed by anybody.
    if not before:
        return set(stream.table.names)
    names = stream.layout_fields(entry.layout)
    # An INSERT writes also the fields that nobody had given a value before.
    new = set(stream.table.names) - set(names) if item.operation == Operation.INSERT else set()
    known = {names[i] for i in differing(before, stream.digest(entry, row)) if i < len(names)}
    return (known | new) & set(stream.table.names)


def _settle(
    stream: StreamStore,
    entry: Entry,
    row: WireRow | None,
    clocks: dict[str, int],
    written: set[str],
    states: dict[str, Any],
) -> None:
    """Write the folded clocks into the entry, with status, layout and digest. ``states``: of fields that merge."""
    names = stream.table.names
    if not entry.alive:
        entry.status = EntryStatus.DELETED
        entry.clock, entry.field_clocks, entry.digest = max(entry.inserted, entry.deleted), {}, b""
        entry.merged = {}
        return
    if entry.status == EntryStatus.PARKED and row is not None and not written.issuperset(names) and entry.held:
        # The row in the table is an older version of the parked one: what was written now counts in both.
        values = dict(zip(names, row, strict=True))
        entry.held = {**entry.held, **{name: states.get(name, values[name]) for name in written}}
        entry.merged = stream.merged_values(row)
        entry.layout = stream.full_layout
        entry.digest = stream.digest(entry, row)
    elif row is not None:
        entry.status = EntryStatus.PRESENT
        # What is held for a field of the table has still to get there, unless the application has written the field.
        entry.held = {name: value for name, value in entry.held.items() if name not in written}
        entry.merged = states
    # A field that a migration has removed since has no value any more.
    set_clocks(entry, {name: c for name, c in clocks.items() if name in stream.table.codecs or name in entry.held})
    known = {DELETE, *stream.table.codecs, *entry.held}
    entry.past = {name: seen for name, seen in entry.past.items() if name in known}
    if entry.status == EntryStatus.PRESENT:
        assert row is not None
        entry.layout = stream.layout_id(tuple(name for name in stream.table.names if name in clocks))
        entry.digest = stream.digest(entry, stream.shown_row(row, states))
