"""Applying a peer's rows, as ``p2p_replication.storage.applier`` does: a transaction a slice.

A slice that the database refuses is split until the rows at fault are alone; those are parked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2p_replication.protocol.changes import ChangedRow, unpack_rows
from p2p_replication.protocol.clock import is_too_far_ahead
from p2p_replication.protocol.merge import join_into
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.version_vector import Vector, covers, joined
from tests.simulation.storage_content import Cursor, Entry, Status
from tests.simulation.storage_model import MAX_SKEW_MS, StorageModel, Work

#: Rows of a slice: fewer than those of a batch, so that a crash finds some of a batch applied and others not.
SLICE_ROWS = 2


class _Refused(Exception):
    """The database refuses a row of the slice."""


@dataclass(frozen=True)
class _Span:
    """The part of the sender's ledger that a slice covers; the last slice carries the batch's claim."""

    start: int
    end: int
    continues: tuple[str, int] | None
    last: bool


@dataclass
class Applying:
    """One batch on its way into a database. ``now``: seconds, ``now_ms``: by the replica's own clock."""

    storage: StorageModel
    pool: str
    peer: str
    changes: Changes
    now: float
    now_ms: int
    taken: bool = True
    #: All of it is one transaction, with other batches.
    whole: bool = False

    @property
    def is_refused(self) -> bool:
        """The database refuses one of the rows."""
        return any((self.changes.model, key) in self.storage.refused for key in self.changes.rows.keys)

    def run(self) -> Work[tuple[Vector, bool]]:
        """Apply the batch; return the vector, and whether its claim (or its cursor) was taken."""
        storage, changes = self.storage, self.changes
        storage.check_own_counter(changes.model, changes.claim or {})
        rows = list(unpack_rows(changes.rows))
        for row in rows:
            storage.copies[changes.model, row.key] += 1
        position = changes.from_seq
        first = True
        while first or rows:
            piece, rows = rows[:SLICE_ROWS], rows[SLICE_ROWS:]
            end = changes.to_seq if not rows else piece[-1].seq
            span = _Span(position, end, changes.continues if first else None, last=not rows)
            yield from self._splitting(piece, span)
            position, first = end, False
        vector = storage.vector(self.pool, changes.model)
        if changes.claim:
            storage.note_changed(changes.model)
        return vector, self.taken

    def _splitting(self, rows: Sequence[ChangedRow], span: _Span, *, refused: bool = False) -> Work[None]:
        """Apply rows in one transaction; if they are refused, in two, down to single rows, which are parked."""
        try:
            self._slice(rows, refused=refused)
        except _Refused:
            if len(rows) == 1:
                yield from self._splitting(rows, span, refused=True)
                return
            middle = len(rows) // 2
            cut = rows[middle - 1].seq
            yield from self._splitting(rows[:middle], replace(span, end=cut, last=False))
            yield from self._splitting(rows[middle:], replace(span, start=cut, continues=None))
            return
        in_order = not self.changes.round or self._move_cursor(span)
        if span.last and self.changes.claim is not None and self.taken and in_order:
            in_order = self._take_claim()
        self.taken = self.taken and in_order
        if not self.whole:
            self.storage.commit()
            yield

    def _slice(self, rows: Sequence[ChangedRow], *, refused: bool) -> None:
        storage, label = self.storage, self.changes.model
        keys = {row.key for row in rows}
        if not refused and any((label, key) in storage.refused for key in keys):
            raise _Refused
        storage.post_keys(label, keys)
        for row in rows:
            self._row(row, refused=refused)

    def _row(self, incoming: ChangedRow, *, refused: bool) -> None:
        storage, label, key = self.storage, self.changes.model, incoming.key
        entries = storage.streams[label].entries
        entry, state, dots = entries.get(key), incoming.state, dict(incoming.dots)
        if entry is None:
            entry = Entry(state, dots, incoming.born)
        else:
            result = join_into(storage.state_of(label, key), state)
            if result.is_local:
                return  # Also if it equals both: the local dots stay.
            if not result.is_incoming:
                dots = joined(entry.dots, dots)
            born = incoming.born if state.inserted > entry.state.inserted else entry.born
            state = result.state
            entry = Entry(state, dots, born, 0, entry.own_counter)
        if refused or is_too_far_ahead(state.latest(), self.now_ms, MAX_SKEW_MS):
            entry.status = Status.PARKED
        else:
            entry.status = storage.settle(label, key, state)
        entry.seq = storage.take_sequence()
        entries[key] = entry
        storage.touch([(label, key)])

    def _move_cursor(self, span: _Span) -> bool:
        """Move the cursor over a slice; False, and nothing moves, if it begins above it."""
        changes, cursors = self.changes, self.storage.declarations[self.pool, self.changes.model].cursors
        cursor = cursors.get(self.peer) or Cursor("", 0)
        to_seq = span.end
        if cursor.start == changes.start:
            if span.start > cursor.sequence:
                return False
            to_seq = max(to_seq, cursor.sequence)
        elif span.start > 0 and span.continues != (cursor.start, cursor.sequence):
            return False
        finished = span.last and changes.claim is not None
        snapshot = max(changes.snapshot, cursor.snapshot if cursor.start == changes.start else 0)
        # Another start may be another history: its claim need not cover what the start before has sent.
        broken_since = cursor.broken_since or (cursor.unfinished_since if cursor.start != changes.start else None)
        cursors[self.peer] = Cursor(
            changes.start, to_seq, 0 if finished else snapshot, finished, None if finished else self.now, broken_since
        )
        return True

    def _take_claim(self) -> bool:
        """Raise the vector to what the batch claims. A push counts only if the vector reaches where it begins."""
        claim = self.changes.claim
        assert claim is not None
        if self.changes.round == 0:
            vector = self.storage.vector(self.pool, self.changes.model)
            if any(vector.get(origin, 0) < self.changes.push_from for origin in claim):
                return False
        declaration = self.storage.declarations[self.pool, self.changes.model]
        if not covers(declaration.taken, claim):
            declaration.taken = joined(declaration.taken, claim)
        return True


def apply_bundle(storage: StorageModel, batches: Sequence[Applying]) -> Work[list[tuple[Vector, bool]]]:
    """Apply batches, in one transaction if they are the last ones and none of their rows is refused."""
    whole = not any(batch.changes.claim is None or batch.is_refused for batch in batches)
    outcomes = []
    for batch in batches:
        batch.whole = whole
        outcomes.append((yield from batch.run()))
    if whole:
        storage.commit()
        yield
    return outcomes
