"""Reading batches for a peer, as ``p2p_replication.storage.changes`` does: each from one snapshot."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from p2p_replication.protocol.changes import ChangedRow, PushBatch, ReadBatch, pack_rows
from p2p_replication.protocol.effects import PullWish
from p2p_replication.protocol.messages import Rows
from p2p_replication.protocol.version_vector import covers
from tests.simulation.storage_content import Entry
from tests.simulation.storage_model import FIELDS, StorageModel, Work

#: Small, so that pulls are cut, scans end early and pushes give way to announcements.
BATCH_ROWS = 3
SCAN_ROWS = 8
SKIP_ROWS = 6
PUSH_ROWS = 4
TOGETHER_ROWS = 5
#: How often a snapshot is taken anew because the application wrote one of its rows meanwhile.
CLEAN_TRIES = 3


class _Dirty(Exception):
    """A row of the snapshot has a write that is not posted yet."""


def read_pulls(storage: StorageModel, pool: str, wishes: Sequence[PullWish]) -> Work[list[ReadBatch]]:
    """Read the next batch of what each wish lacks, or of the first ones, if together they are too long.

    Only the last batch of its snapshot has our vector.
    """
    starts = []
    for wish in wishes:
        storage.check_own_counter(wish.model, wish.vector)
        starts.append(_start_of(storage, wish))
    for attempt in range(CLEAN_TRIES + 1):
        yield from storage.posting()
        if attempt < CLEAN_TRIES:
            yield  # The last time it reads in the transaction that posts.
        try:
            return _read_pulls(storage, pool, wishes, starts)
        except _Dirty:
            pass
    raise AssertionError("nothing is dirty in the transaction that posts")


def _start_of(storage: StorageModel, wish: PullWish) -> tuple[int, tuple[str, int] | None]:
    if wish.after is not None:
        return wish.after, None
    mapped = storage.map_cursor(wish.cursor_start, wish.cursor_seq, wish.cursor_snapshot)
    return mapped or 0, (wish.cursor_start, wish.cursor_seq) if mapped is not None else None


def _read_pulls(
    storage: StorageModel, pool: str, wishes: Sequence[PullWish],
    starts: Sequence[tuple[int, tuple[str, int] | None]],
) -> list[ReadBatch]:  # fmt: skip
    batches: list[ReadBatch] = []
    left = TOGETHER_ROWS
    for wish, (after, continues) in zip(wishes, starts, strict=True):
        limit = wish.batch_size or BATCH_ROWS
        limit = min(limit, left) if batches else limit
        rows, to_seq, at_end = _read(storage, wish.model, wish.vector, after, limit)
        storage.rows_read += len(rows)
        claim = storage.vector(pool, wish.model) if at_end else None
        rest = sum(entry.seq > to_seq for entry in storage.streams[wish.model].entries.values())
        packed = _pack(storage, wish.model, rows)
        batches.append(
            ReadBatch(storage.start, after, to_seq, packed, len(rows), claim, continues, rest, storage.content.sequence)
        )
        left -= len(rows)
        if claim is None or left <= 0:
            break
    return batches


def _read(
    storage: StorageModel, label: str, vector: Mapping[str, int], after: int, limit: int
) -> tuple[list[tuple[str, Entry]], int, bool]:
    """Return the rows of a batch, the ``seq`` up to which it reaches, and whether that is the end."""
    dirty = storage.pending_keys(label)
    entries = in_order(storage, label, after)
    rows: list[tuple[str, Entry]] = []
    position, scanned, had, may_skip = after, 0, 0, True
    while entries:
        if len(rows) == limit or scanned == SCAN_ROWS:
            return rows, position, False
        key, entry = entries.pop(0)
        scanned += 1
        if covers(vector, entry.dots):
            position, had = entry.seq, had + 1
            if had >= limit and may_skip:
                may_skip = False
                passed = _had(entries[:SKIP_ROWS], vector)
                position = passed[-1][1].seq if passed else position
                del entries[: len(passed)]
                if len(passed) == SKIP_ROWS:
                    return rows, position, not entries
                position = entries[0][1].seq - 1 if entries else position
            continue
        if key in dirty:
            raise _Dirty
        rows.append((key, entry))
        position, had = entry.seq, 0
    return rows, position, True


def _had(entries: Sequence[tuple[str, Entry]], vector: Mapping[str, int]) -> list[tuple[str, Entry]]:
    """Return those entries from the first one on that are passed over without being read."""
    return list(itertools.takewhile(lambda item: len(item[1].dots) == 1 and covers(vector, item[1].dots), entries))


def read_pushes(storage: StorageModel, wishes: Mapping[str, int]) -> Work[dict[str, PushBatch]]:
    """Read own changes in their present state, by model above the given counter: all of them, or none if they are too
    many."""
    for attempt in range(CLEAN_TRIES + 1):
        yield from storage.posting()
        if attempt < CLEAN_TRIES:
            yield
        found = {}
        for label, push_from in wishes.items():
            floor = max(push_from, storage.content.starts[-1][1])
            rows = [item for item in in_order(storage, label, floor) if item[1].own_counter > floor]
            if storage.pending_keys(label) & {key for key, _ in rows}:
                break
            push_to = max(storage.streams[label].own_vector.get(storage.start, 0), push_from)
            if len(rows) > PUSH_ROWS:
                found[label] = PushBatch(push_from, push_from, storage.start, None, 0)
            else:
                found[label] = PushBatch(push_from, push_to, storage.start, _pack(storage, label, rows), len(rows))
        if len(found) < len(wishes):
            continue
        if sum(batch.count for batch in found.values()) > TOGETHER_ROWS:
            break
        storage.rows_read += sum(batch.count for batch in found.values())
        return found
    return {label: PushBatch(push_from, push_from, storage.start, None, 0) for label, push_from in wishes.items()}


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
