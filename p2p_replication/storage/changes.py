"""Reading changes for a peer: batches in ``seq`` order, each from one snapshot (DESIGN 4)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from p2p_replication.exceptions import RowTooLarge
from p2p_replication.models.ledger import EntryStatus
from p2p_replication.protocol.changes import ChangedRow, PushBatch, ReadBatch, pack_rows
from p2p_replication.storage.ledger import COLUMNS, TABLE, Entry
from p2p_replication.storage.posting import log_is_waiting, pending_keys, post_all
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.subsets import EVERYTHING, Share, Subset, mark_shared, unmarked
from p2p_replication.storage.vectors import check_own_counter, own_vector, vector_of
from p2p_replication.storage.versions import state_of

#: Rows of a batch, unless the asker wants fewer.
BATCH_ROWS = 500
#: A batch ends early when its values reach about so many bytes, before compression.
BATCH_BYTES = 256 * 1024
#: Text may take three times its length in bytes; a message must hold a row whatever its text.
MAX_ROW_BYTES = 4 * 1024 * 1024
#: Ledger entries looked at for one batch, most of which the peer may have.
SCAN_ROWS = 5_000
#: More own changes than this are announced, not pushed.
PUSH_ROWS = 250
#: How often a snapshot is taken anew because the application wrote one of its rows meanwhile.
CLEAN_TRIES = 3


class _Dirty(Exception):
    """A row of the snapshot has a write that is not posted yet."""


def read_changes(
    database: ReplicaDatabase,
    stream: StreamStore,
    declaration: int,
    vector: Mapping[str, int],
    *,
    after: int | None,
    cursor: tuple[str, int, int] = ("", 0, 0),
    batch_size: int = 0,
    subset: Subset = EVERYTHING,
) -> ReadBatch:
    """Read the next batch of what ``vector`` does not cover.

    Args:
        after: ``seq`` of the last row of the batch before, None for the first batch: then ``cursor`` is mapped.

    The batch carries this replica's vector only if it reaches the end of its snapshot. Raises FilterChanged if the
    declaration is no longer about ``subset``.
    """
    check_own_counter(database, stream, vector)
    continues = None
    first = after is None
    if after is None:
        mapped = database.map_cursor(*cursor)
        after = mapped or 0
        continues = cursor[:2] if mapped is not None else None
    for attempt in range(CLEAN_TRIES + 1):
        post_all(database)
        batch, entering = None, list[str]()
        with contextlib.suppress(_Dirty), database.snapshot():
            batch = _read(
                database, stream, declaration, subset, vector, after, continues, batch_size or BATCH_ROWS, first,
                entering, cut_before_dirty=attempt == CLEAN_TRIES,
            )  # fmt: skip
        if batch is not None:
            mark_shared(database, stream, subset, entering)
            return batch
    raise AssertionError("the last attempt cuts the batch instead of giving up")


def _read(
    database: ReplicaDatabase, stream: StreamStore, declaration: int, subset: Subset, vector: Mapping[str, int],
    after: int, continues: tuple[str, int] | None, limit: int, count_rest: bool, entering: list[str], *,
    cut_before_dirty: bool,
) -> ReadBatch:  # fmt: skip
    """Read a batch; ``entering`` gets the keys of the rows that the subset's peers have not had before."""
    dirty = pending_keys(database, stream) if log_is_waiting(database) else set()
    rows: list[ChangedRow] = []
    position, size, scanned = after, 0, 0
    at_end = False
    while not at_end and len(rows) < limit and size < BATCH_BYTES and scanned < SCAN_ROWS:
        page = min(limit, SCAN_ROWS - scanned)
        records = _select(database, stream, "l.seq > %s", [position], page)
        scanned += len(records)
        at_end = len(records) < page
        for record in records:
            entry = Entry.load(record[: len(COLUMNS)])
            if len(rows) >= limit or size >= BATCH_BYTES:
                at_end = False
                break
            if not _lacks(database, vector, entry):
                position = entry.seq
                continue
            if entry.key in dirty:
                if not cut_before_dirty:
                    raise _Dirty
                return _batch(database, stream, after, position, rows, None, continues, None)
            raw = record[len(COLUMNS) :]
            if entry.status == EntryStatus.PRESENT and raw[0] is None:
                position = entry.seq  # Gone without a trace in the log: reconciliation will post its deletion.
                continue
            row = _changed_row(database, stream, subset, entry, raw)
            if row is None:
                position = entry.seq
                continue
            row_size = _size(row)
            if rows and size + row_size > MAX_ROW_BYTES:
                at_end = False
                break
            rows.append(row)
            entering += unmarked(subset, [entry])
            size += row_size
            position = entry.seq
    claim = None
    if at_end:
        # Rows that wait in the log have no dot yet: the vector does not speak of them.
        claim = vector_of(database, stream, declaration, subset)
    rest = _count(database, stream, position) if count_rest else None
    return _batch(database, stream, after, position, rows, claim, continues, rest)


def read_push(
    database: ReplicaDatabase,
    stream: StreamStore,
    push_from: int,
    limit: int = PUSH_ROWS,
    subset: Subset = EVERYTHING,
) -> PushBatch:
    """Read own changes above ``push_from`` in their present state: all of them, or none if they are too many."""
    floor = max(push_from, database.first_sequence)
    for _ in range(CLEAN_TRIES):
        batch = None
        with database.snapshot():
            push_to = own_vector(database, stream).get(database.start, 0)
            records = _select(database, stream, "l.seq > %s AND l.own_counter > %s", [floor, floor], limit + 1)
            if len(records) > limit:
                break
            entries = [(Entry.load(record[: len(COLUMNS)]), record[len(COLUMNS) :]) for record in records]
            dirty = pending_keys(database, stream) if log_is_waiting(database) else set()
            if not any(entry.key in dirty for entry, _ in entries):
                rows, entering = [], []
                for entry, raw in entries:
                    if entry.status == EntryStatus.PRESENT and raw[0] is None:
                        continue
                    row = _changed_row(database, stream, subset, entry, raw)
                    if row is not None:
                        rows.append(row)
                        entering += unmarked(subset, [entry])
                if sum(map(_size, rows)) > BATCH_BYTES:
                    break
                packed = pack_rows(_field_names(stream, rows), rows)
                batch = PushBatch(push_from, max(push_to, push_from), database.start, packed, len(rows))
        if batch is not None:
            mark_shared(database, stream, subset, entering)
            return batch
        post_all(database)
    return PushBatch(push_from, push_from, database.start, None, 0)


def _select(
    database: ReplicaDatabase, stream: StreamStore, condition: str, params: Sequence[Any], limit: int
) -> list[tuple[Any, ...]]:
    table = stream.table
    ledger = ", ".join(f"l.{column}" for column in COLUMNS)
    values = table.select_list("t")
    with database.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {ledger}, {table.key_text('t')}{', ' + values if values else ''} "
            f"FROM {TABLE} l LEFT JOIN {table.name} t ON {table.has_key('t', 'l.key')} "
            f"WHERE l.stream = %s AND {condition} ORDER BY l.seq LIMIT %s",
            [stream.id, *params, limit],
        )
        records = list(cursor.fetchall())
    table.prepare(records, len(COLUMNS) + 1)
    return records


def _count(database: ReplicaDatabase, stream: StreamStore, after: int) -> int:
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {TABLE} WHERE stream = %s AND seq > %s", [stream.id, after])
        return int(cursor.fetchone()[0])


def _lacks(database: ReplicaDatabase, vector: Mapping[str, int], entry: Entry) -> bool:
    """Tell whether any dot of the entry is above the vector."""
    if vector.get(database.origin_id(entry.origin), 0) < entry.counter:
        return True
    return any(vector.get(database.origin_id(o), 0) < c for o, c in entry.more_dots.items())


def _changed_row(
    database: ReplicaDatabase, stream: StreamStore, subset: Subset, entry: Entry, raw: Sequence[Any]
) -> ChangedRow | None:
    """Return what the subset's peers are told of a row, None if nothing."""
    row = None
    if entry.status == EntryStatus.PRESENT:
        row = stream.table.wire_row(raw[1:])
    state = state_of(stream, entry, row)
    share = subset.share(entry.status, entry.subsets, state)
    if share is Share.NOTHING:
        return None
    dots = {database.origin_id(origin): counter for origin, counter in entry.dots().items()}
    born = (database.origin_id(entry.born_origin), entry.born_counter)
    return ChangedRow(stream.table.key_to_wire(entry.key), entry.seq, dots, born, subset.told(share, state))


def _batch(
    database: ReplicaDatabase, stream: StreamStore, after: int, position: int, rows: list[ChangedRow],
    claim: dict[str, int] | None, continues: tuple[str, int] | None, remaining: int | None,
) -> ReadBatch:  # fmt: skip
    packed = pack_rows(_field_names(stream, rows), rows)
    return ReadBatch(
        database.start, after, position, packed, len(rows), claim, continues, remaining, database.sequence()
    )


def _field_names(stream: StreamStore, rows: Sequence[ChangedRow]) -> list[str]:
    names = dict.fromkeys(stream.table.names)
    for row in rows:
        if len(row.state.values) != len(names) or not names.keys() >= row.state.values.keys():
            names.update(dict.fromkeys(row.state.values))
    return list(names)


def _size(row: ChangedRow) -> int:
    size = 24 + sum(len(v) if type(v) is str or type(v) is bytes else 8 for v in row.state.values.values())
    if size > MAX_ROW_BYTES:
        raise RowTooLarge(
            f"the row with the key {row.key!r} has {size} bytes; a row above {MAX_ROW_BYTES} can't replicate. Make it "
            "smaller (keep large content in files), then the model goes on."
        )
    return size
