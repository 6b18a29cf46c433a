"""Reading changes for a peer: batches in ``seq`` order, each from one snapshot (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2p_replication.exceptions import RowTooLarge
from p2p_replication.models.ledger import EntryStatus
from p2p_replication.protocol.changes import ChangedRow, PushBatch, ReadBatch, pack_rows
from p2p_replication.storage.clean_snapshots import Dirty, read_clean
from p2p_replication.storage.had_changes import skip_had
from p2p_replication.storage.ledger import COLUMNS, TABLE, Entry
from p2p_replication.storage.posting import log_is_waiting, pending_keys
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.stored_vectors import own_vectors
from p2p_replication.storage.subsets import EVERYTHING, Share, Subset, mark_shared, unmarked
from p2p_replication.storage.vectors import check_own_counter, vector_of
from p2p_replication.storage.versions import state_of

#: Rows of a batch, unless the asker wants fewer.
BATCH_ROWS = 500
#: A batch ends early when its values reach about so many bytes, before compression.
BATCH_BYTES = 256 * 1024
#: Text may take three times its length in bytes; a message must hold a row whatever its text.
MAX_ROW_BYTES = 4 * 1024 * 1024
#: Ledger entries read for one batch, most of which the peer may have.
SCAN_ROWS = 5_000
#: More own changes than this are announced, not pushed.
PUSH_ROWS = 250
#: Rows of several models that travel, and are applied, together.
TOGETHER_ROWS = 500


@dataclass(frozen=True)
class PullWish:
    """A peer's pull of one model.

    Attributes:
        vector: what the peer has.
        after: ``to_seq`` of the batch before, None for the first batch: then ``cursor`` is mapped.
        batch_size: rows that the peer wants at most, 0 if it leaves that to us.
    """

    stream: StreamStore
    declaration: int
    vector: Mapping[str, int]
    after: int | None
    cursor: tuple[str, int, int] = ("", 0, 0)
    batch_size: int = 0
    subset: Subset = EVERYTHING


@dataclass(frozen=True)
class PushWish:
    """Own changes of one model above ``push_from``: all of them, or none if they are more than ``limit``."""

    stream: StreamStore
    push_from: int
    limit: int = PUSH_ROWS
    subset: Subset = EVERYTHING


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
    """Read the next batch of one model: see ``PullWish`` and ``read_pulls``."""
    wish = PullWish(stream, declaration, vector, after, cursor, batch_size, subset)
    return read_pulls(database, [wish])[0]


def read_pulls(database: ReplicaDatabase, wishes: Sequence[PullWish]) -> list[ReadBatch]:
    """Read a batch for each wish, or for the first ones, if together they are too long: all from one snapshot.

    Everything committed before is posted first, so each of the application's transactions is in it as a whole or not
    at all. A batch carries this replica's vector only if it reaches the end of its snapshot. Raises FilterChanged if a
    declaration is no longer about its wish's subset.
    """
    starts = [_start_of(database, wish) for wish in wishes]
    found = read_clean(database, lambda at_last: _read_pulls(database, wishes, starts, cut_before_dirty=at_last))
    for wish, (_, entering) in zip(wishes, found, strict=False):
        mark_shared(database, wish.stream, wish.subset, entering)
    return [batch for batch, _ in found]


@dataclass(frozen=True)
class _Start:
    """Where a batch begins: ``first`` one of its pull, ``continues`` the peer's cursor."""

    after: int
    continues: tuple[str, int] | None
    first: bool


def _start_of(database: ReplicaDatabase, wish: PullWish) -> _Start:
    check_own_counter(database, wish.stream, wish.vector)
    if wish.after is not None:
        return _Start(wish.after, None, first=False)
    mapped = database.map_cursor(*wish.cursor)
    return _Start(mapped or 0, wish.cursor[:2] if mapped is not None else None, first=True)


def _read_pulls(
    database: ReplicaDatabase, wishes: Sequence[PullWish], starts: Sequence[_Start], *, cut_before_dirty: bool
) -> list[tuple[ReadBatch, list[str]]]:
    found: list[tuple[ReadBatch, list[str]]] = []
    rows, size, may_skip = TOGETHER_ROWS, BATCH_BYTES, True
    for wish, start in zip(wishes, starts, strict=True):
        limit = wish.batch_size or BATCH_ROWS
        reading = _Reading(min(limit, rows) if found else limit, size, at_least_one=not found, may_skip=may_skip)
        batch = _read(database, wish, start, reading, cut_before_dirty=cut_before_dirty)
        if found and batch.vector is None and not batch.count:
            break  # There was no room for any.
        found.append((batch, reading.entering))
        may_skip = reading.may_skip
        rows -= batch.count
        size -= reading.size
        if batch.vector is None or rows <= 0 or size <= 0:
            break
    return found


@dataclass
class _Reading:
    """What a batch may have, and what was read for it.

    Attributes:
        may_skip: nothing was passed over so far: once is enough, what is read together has to come to an end.
        entering: keys of the rows that the subset's peers have not had before.
    """

    limit: int
    room: int
    at_least_one: bool
    may_skip: bool
    rows: list[ChangedRow] = field(default_factory=list)
    entering: list[str] = field(default_factory=list)
    size: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.rows) >= self.limit or self.size >= self.room

    def has_room(self, size: int) -> bool:
        """Tell whether one more row fits."""
        if not self.rows and self.at_least_one:
            return True
        return self.size + size <= (MAX_ROW_BYTES if self.at_least_one else self.room)


def _read(
    database: ReplicaDatabase, wish: PullWish, start: _Start, reading: _Reading, *, cut_before_dirty: bool
) -> ReadBatch:
    stream, subset = wish.stream, wish.subset
    dirty = pending_keys(database, stream) if log_is_waiting(database) else set()
    position, scanned = start.after, 0
    at_end = False
    while not at_end and not reading.is_full and scanned < SCAN_ROWS:
        page = min(reading.limit, SCAN_ROWS - scanned)
        records = _select(database, stream, "l.seq > %s", [position], page)
        scanned += len(records)
        at_end = len(records) < page
        had: set[int] | None = set()
        for record in records:
            entry = Entry.load(record[: len(COLUMNS)])
            if reading.is_full:
                at_end = False
                break
            if not _lacks(database, wish.vector, entry):
                position = entry.seq
                if had is not None:
                    had.add(entry.origin)
                continue
            had = None
            if entry.key in dirty:
                if not cut_before_dirty:
                    raise Dirty
                return _batch(database, stream, start, position, reading.rows, None, None)
            raw = record[len(COLUMNS) :]
            if entry.status == EntryStatus.PRESENT and raw[0] is None:
                position = entry.seq  # Gone without a trace in the log: reconciliation will post its deletion.
                continue
            row = _changed_row(database, stream, subset, entry, raw)
            if row is None:
                position = entry.seq
                continue
            row_size = _size(stream, row)
            if not reading.has_room(row_size):
                at_end = False
                break
            reading.rows.append(row)
            reading.entering += unmarked(subset, [entry])
            reading.size += row_size
            position = entry.seq
        if had and reading.may_skip and not at_end:
            reading.may_skip = False
            position, is_cut = skip_had(database, stream, wish.vector, had, position)
            if is_cut:
                break
    claim = None
    if at_end:
        # Rows that wait in the log have no dot yet: the vector does not speak of them.
        claim = vector_of(database, stream, wish.declaration, subset)
    rest = _count(database, stream, position) if start.first else None
    return _batch(database, stream, start, position, reading.rows, claim, rest)


def read_push(
    database: ReplicaDatabase,
    stream: StreamStore,
    push_from: int,
    limit: int = PUSH_ROWS,
    subset: Subset = EVERYTHING,
) -> PushBatch:
    """Read own changes of one model above ``push_from``: see ``PushWish``."""
    return read_pushes(database, [PushWish(stream, push_from, limit, subset)])[0]


def read_pushes(database: ReplicaDatabase, wishes: Sequence[PushWish]) -> list[PushBatch]:
    """Read own changes in their present state, of several models from one snapshot, in which each of the application's
    transactions is as a whole or not at all.

    If there are too many, of one model or together, ``rows`` of that model's batch, or of all, is None.
    """
    none = [PushBatch(wish.push_from, wish.push_from, database.start, None, 0) for wish in wishes]

    def read(at_last: bool) -> list[tuple[PushBatch, list[str], int]]:
        own = own_vectors(database)
        last = [own.get(wish.stream.id, {}).get(database.start, 0) for wish in wishes]
        try:
            return [
                _read_push(database, wish, max(push_to, wish.push_from))
                for wish, push_to in zip(wishes, last, strict=True)
            ]
        except Dirty:
            if at_last:
                return []  # Far too much has been written.
            raise

    found = read_clean(database, read)
    count, size = sum(batch.count for batch, _, _ in found), sum(size for _, _, size in found)
    if not found or size > BATCH_BYTES or count > max(TOGETHER_ROWS, *(wish.limit for wish in wishes)):
        return none
    for wish, (batch, entering, _) in zip(wishes, found, strict=True):
        if batch.rows is not None:
            mark_shared(database, wish.stream, wish.subset, entering)
    return [batch for batch, _, _ in found]


def _read_push(database: ReplicaDatabase, wish: PushWish, push_to: int) -> tuple[PushBatch, list[str], int]:
    """Return a batch, the keys of its rows that the subset's peers have not had before, and its size."""
    stream, subset = wish.stream, wish.subset
    floor = max(wish.push_from, database.first_sequence)
    rows: list[ChangedRow] = []
    entering: list[str] = []
    records: Sequence[tuple[Any, ...]] = ()
    if push_to > floor:
        records = _select(database, stream, "l.seq > %s AND l.own_counter > %s", [floor, floor], wish.limit + 1)
    too_many = PushBatch(wish.push_from, wish.push_from, database.start, None, 0), entering, 0
    if len(records) > wish.limit:
        return too_many
    dirty = pending_keys(database, stream) if records and log_is_waiting(database) else set()
    for record in records:
        entry, raw = Entry.load(record[: len(COLUMNS)]), record[len(COLUMNS) :]
        if entry.key in dirty:
            raise Dirty
        if entry.status == EntryStatus.PRESENT and raw[0] is None:
            continue
        row = _changed_row(database, stream, subset, entry, raw)
        if row is not None:
            rows.append(row)
            entering += unmarked(subset, [entry])
    size = sum(_size(stream, row) for row in rows)
    if size > BATCH_BYTES:
        return too_many
    packed = pack_rows(_field_names(stream, rows), rows)
    return PushBatch(wish.push_from, push_to, database.start, packed, len(rows)), entering, size


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
    database: ReplicaDatabase, stream: StreamStore, start: _Start, position: int, rows: list[ChangedRow],
    claim: dict[str, int] | None, remaining: int | None,
) -> ReadBatch:  # fmt: skip
    packed = pack_rows(_field_names(stream, rows), rows)
    return ReadBatch(
        database.start, start.after, position, packed, len(rows), claim, start.continues, remaining,
        database.sequence(),
    )  # fmt: skip


def _field_names(stream: StreamStore, rows: Sequence[ChangedRow]) -> list[str]:
    names = dict.fromkeys(stream.table.names)
    for row in rows:
        if len(row.state.values) != len(names) or not names.keys() >= row.state.values.keys():
            names.update(dict.fromkeys(row.state.values))
    return list(names)


def _size(stream: StreamStore, row: ChangedRow) -> int:
    size = 24 + sum(len(v) if type(v) is str or type(v) is bytes else 8 for v in row.state.values.values())
    if size > MAX_ROW_BYTES:
        raise RowTooLarge(
            f"the row with the key {row.key!r} has {size} bytes; a row above {MAX_ROW_BYTES} can't replicate. Make it "
            "smaller (keep large content in files), then the model goes on.",
            stream.label,
        )
    return size
