"""Reading batches for a peer, as ``p2p_replication.storage.changes`` does: each from one snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2p_replication.protocol.changes import ChangedRow, PushBatch, ReadBatch, pack_rows
from p2p_replication.protocol.messages import Rows
from p2p_replication.protocol.version_vector import covers
from tests.simulation.storage_content import Entry
from tests.simulation.storage_model import FIELDS, StorageModel, Work

#: Small, so that pulls are cut, scans end early and pushes give way to announcements.
BATCH_ROWS = 3
SCAN_ROWS = 8
PUSH_ROWS = 4
#: How often a snapshot is taken anew because the application wrote one of its rows meanwhile.
CLEAN_TRIES = 3


class _Dirty(Exception):
    """A row of the snapshot has a write that is not posted yet."""


def read_changes(
    storage: StorageModel,
    pool: str,
    label: str,
    vector: Mapping[str, int],
    after: int | None,
    cursor: tuple[str, int, int],
    batch_size: int,
) -> Work[ReadBatch]:
    """Read the next batch of what ``vector`` does not cover; only the last one of its snapshot has our vector."""
    storage.check_own_counter(label, vector)
    continues = None
    if after is None:
        mapped = storage.map_cursor(*cursor)
        after, continues = mapped or 0, cursor[:2] if mapped is not None else None
    attempt = 0
    while True:
        yield from storage.posting()
        yield
        try:
            batch = _read(storage, pool, label, vector, after, batch_size or BATCH_ROWS, cut=attempt == CLEAN_TRIES)
        except _Dirty:
            attempt += 1
            continue
        rows, to_seq, at_end = batch
        storage.rows_read += len(rows)
        claim = storage.vector(pool, label) if at_end else None
        rest = sum(entry.seq > to_seq for entry in storage.streams[label].entries.values())
        return ReadBatch(
            storage.start, after, to_seq, _pack(storage, label, rows), len(rows), claim, continues, rest,
            storage.content.sequence,
        )  # fmt: skip


def _read(
    storage: StorageModel, pool: str, label: str, vector: Mapping[str, int], after: int, limit: int, *, cut: bool
) -> tuple[list[tuple[str, Entry]], int, bool]:
    """Return the rows of a batch, the ``seq`` up to which it reaches, and whether that is the end.

    ``cut``: end the batch before a row that is not posted, instead of giving up.
    """
    dirty = storage.pending_keys(label)
    entries = in_order(storage, label, after)
    rows: list[tuple[str, Entry]] = []
    position = after
    for scanned, (key, entry) in enumerate(entries):
        if len(rows) == limit or scanned == SCAN_ROWS:
            return rows, position, False
        if not covers(vector, entry.dots):
            if key in dirty:
                if not cut:
                    raise _Dirty
                return rows, position, False
            rows.append((key, entry))
        position = entry.seq
    return rows, position, True


def read_push(storage: StorageModel, label: str, push_from: int) -> Work[PushBatch]:
    """Read own changes above ``push_from`` in their present state: all of them, or none if they are too many."""
    floor = max(push_from, storage.content.starts[-1][1])
    for _ in range(CLEAN_TRIES):
        yield
        rows = [item for item in in_order(storage, label, floor) if item[1].own_counter > floor]
        if len(rows) > PUSH_ROWS:
            break
        if not storage.pending_keys(label) & {key for key, _ in rows}:
            push_to = max(storage.streams[label].own_vector.get(storage.start, 0), push_from)
            storage.rows_read += len(rows)
            return PushBatch(push_from, push_to, storage.start, _pack(storage, label, rows), len(rows))
        yield from storage.posting()
    return PushBatch(push_from, push_from, storage.start, None, 0)


def in_order(storage: StorageModel, label: str, after: int) -> list[tuple[str, Entry]]:
    """Return the ledger above a ``seq``, in its order."""
    found = [item for item in storage.streams[label].entries.items() if item[1].seq > after]
    return sorted(found, key=lambda item: item[1].seq)


def _pack(storage: StorageModel, label: str, rows: Sequence[tuple[str, Entry]]) -> Rows:
    changed = []
    for key, entry in rows:
        assert entry.born is not None
        changed.append(ChangedRow(key, entry.seq, dict(entry.dots), entry.born, storage.state_of(label, key)))
    return pack_rows(FIELDS, changed)
