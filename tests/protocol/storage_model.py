"""What storage does for a session, on plain dicts: a ledger, vectors, durable cursors and starts, and an oracle.

It follows the rules of posting, applying, vectors and cursors (docs/protocol.md) without a database, so that many
replicas run in one thread. The oracle knows the state that each dot named when it was given; storage is checked
against it after every change.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from p2p_replication.protocol.changes import ChangedRow, PushBatch, ReadBatch, pack_rows, unpack_rows
from p2p_replication.protocol.clock import NEVER, next_clock
from p2p_replication.protocol.merge import join, join_into
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.row_state import RowState, Value
from p2p_replication.protocol.version_vector import Vector, covers, joined

#: Small, so that pulls are cut and pushes give way to announcements.
BATCH_ROWS = 3
PUSH_ROWS = 4

FIELDS = ("body", "title")


class OracleFault(AssertionError):
    """A replica's storage says something that is not so."""


class Oracle:
    """Remembers which state each dot named."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, int], tuple[str, str, RowState]] = {}

    def given(self, origin: str, counter: int, label: str, key: str, state: RowState) -> None:
        if (origin, counter) in self.states:
            raise OracleFault(f"dot {origin}:{counter} was given twice")
        self.states[origin, counter] = (label, key, state)

    def check(self, storage: StorageModel) -> None:
        """Raise OracleFault if a vector covers a state that is not there, or a row lacks what its dots name."""
        for (origin, counter), (label, key, state) in self.states.items():
            stream = storage.streams[label]
            row = stream.rows.get(key)
            named = row is not None and row.dots.get(origin) == counter
            if not named and storage.vector(label).get(origin, 0) < counter:
                continue
            if row is None or join(row.state, state) != row.state:
                held = "its dots name" if named else "its vector covers"
                have = row.state if row else None
                raise OracleFault(
                    f"{storage.name} lacks {label} {key} of {origin}:{counter}, which {held}: has {have}, not {state}"
                )


@dataclass
class LedgerRow:
    state: RowState
    dots: dict[str, int]
    born: tuple[str, int]
    seq: int = 0
    own_counter: int = 0


@dataclass
class StreamModel:
    rows: dict[str, LedgerRow] = field(default_factory=dict)
    own_vector: Vector = field(default_factory=dict)
    taken: Vector = field(default_factory=dict)
    #: ``{peer: (sender's start, seq)}``
    cursors: dict[str, tuple[str, int]] = field(default_factory=dict)


class StorageModel:
    """One replica's database. ``begin`` stands for the start of a worker on it."""

    def __init__(self, name: str, labels: tuple[str, ...], oracle: Oracle) -> None:
        self.name = name
        self.oracle = oracle
        self.streams = {label: StreamModel() for label in labels}
        self.sequence = 0
        #: ``(origin, first sequence)`` of each start in this database's history.
        self.starts: list[tuple[str, int]] = []
        self.start = ""
        #: How often each row arrived, and how many rows were read for peers.
        self.copies: Counter[tuple[str, str]] = Counter()
        self.rows_read = 0

    def begin(self, start: str) -> None:
        """Take a new origin, as every start of a worker does."""
        self.start = start
        self.starts.append((start, self.sequence))

    def save(self) -> object:
        """Return a backup of the database."""
        return copy.deepcopy((self.streams, self.sequence, self.starts))

    def restore(self, backup: object) -> None:
        """Put a backup back; ``begin`` a new start afterwards."""
        self.streams, self.sequence, self.starts = copy.deepcopy(backup)  # type: ignore[assignment]

    # -- local changes ---------------------------------------------------------------------------------------------

    def write(self, label: str, key: str, values: Mapping[str, Value], wall: int) -> None:
        """Insert a row or write some of its fields; an insert names all of them."""
        row = self.streams[label].rows.get(key)
        state = row.state if row else RowState(NEVER, NEVER, 0)
        clock = next_clock(wall, state.latest() if row else NEVER)
        if state.alive:
            fields = state.fields() | {name: (clock, value) for name, value in values.items()}
            self._post(label, key, RowState.of(state.inserted, state.deleted, fields))
        else:
            fields = {name: (clock, values.get(name)) for name in FIELDS}
            self._post(label, key, RowState.of(clock, state.deleted, fields), is_insert=True)

    def delete(self, label: str, key: str, wall: int) -> None:
        row = self.streams[label].rows.get(key)
        if row is not None and row.state.alive:
            self._post(label, key, RowState.of(row.state.inserted, next_clock(wall, row.state.latest()), {}))

    def _post(self, label: str, key: str, state: RowState, *, is_insert: bool = False) -> None:
        stream = self.streams[label]
        self.sequence += 1
        dot = (self.start, self.sequence)
        row = stream.rows.setdefault(key, LedgerRow(state, {}, dot))
        row.state, row.dots = state, dict([dot])
        row.born = dot if is_insert else row.born
        row.seq = row.own_counter = self.sequence
        stream.own_vector[self.start] = self.sequence
        self.oracle.given(*dot, label, key, state)
        self.oracle.check(self)

    def adopt_loose_rows(self) -> None:
        """Give rows above the own vector an own dot beside theirs: nobody else may be left to vouch for them."""
        for label, stream in self.streams.items():
            for key, row in stream.rows.items():
                if not covers(self.vector(label), row.dots):
                    self.sequence += 1
                    row.dots[self.start] = row.seq = row.own_counter = self.sequence
                    stream.own_vector[self.start] = self.sequence
                    self.oracle.given(self.start, self.sequence, label, key, row.state)

    # -- what a session asks for -------------------------------------------------------------------------------------

    def vector(self, label: str) -> Vector:
        stream = self.streams[label]
        return joined(stream.taken, stream.own_vector)

    def position(self, label: str, peer: str) -> tuple[Vector, tuple[str, int]]:
        return self.vector(label), self.streams[label].cursors.get(peer, ("", 0))

    def read_changes(
        self, label: str, vector: Vector, after: int | None, cursor: tuple[str, int], batch_size: int
    ) -> ReadBatch:
        continues = None
        if after is None:
            mapped = self._map_cursor(*cursor)
            after = mapped or 0
            continues = cursor if mapped is not None else None
        rows = [
            (key, row)
            for key, row in self.streams[label].rows.items()
            if row.seq > after and not covers(vector, row.dots)
        ]
        rows.sort(key=lambda item: item[1].seq)
        limit = batch_size or BATCH_ROWS
        cut, at_end = rows[:limit], len(rows) <= limit
        in_stream = max((row.seq for row in self.streams[label].rows.values()), default=0)
        to_seq = max(in_stream, after) if at_end else cut[-1][1].seq
        self.rows_read += len(cut)
        changed = [ChangedRow(key, row.seq, dict(row.dots), row.born, row.state) for key, row in cut]
        claim = self.vector(label) if at_end else None
        return ReadBatch(
            self.start, after, to_seq, pack_rows(FIELDS, changed), len(cut), claim, continues, len(rows) - len(cut)
        )

    def read_push(self, label: str, push_from: int) -> PushBatch:
        floor = max(push_from, self.starts[-1][1])
        rows = [(key, row) for key, row in self.streams[label].rows.items() if row.own_counter > floor]
        if len(rows) > PUSH_ROWS:
            return PushBatch(push_from, push_from, self.start, None, 0)
        rows.sort(key=lambda item: item[1].seq)
        self.rows_read += len(rows)
        changed = [ChangedRow(key, row.seq, dict(row.dots), row.born, row.state) for key, row in rows]
        push_to = max(self.streams[label].own_vector.get(self.start, 0), push_from)
        return PushBatch(push_from, push_to, self.start, pack_rows(FIELDS, changed), len(rows))

    def apply(self, peer: str, changes: Changes) -> tuple[Vector, bool]:
        """Apply a batch; return the vector and whether its claim (or its cursor) was taken."""
        stream = self.streams[changes.model]
        before = self.vector(changes.model)
        for row in unpack_rows(changes.rows):
            self.copies[changes.model, row.key] += 1
            self._apply_row(stream, row)
        in_order = not changes.round or self._move_cursor(stream, peer, changes)
        if in_order and changes.claim is not None:
            if changes.round == 0:
                in_order = all(before.get(origin, 0) >= changes.push_from for origin in changes.claim)
            if in_order:
                stream.taken = joined(stream.taken, changes.claim)
        self.oracle.check(self)
        after = self.vector(changes.model)
        if not covers(after, before):
            raise OracleFault(f"the vector of {self.name} went back from {before} to {after}")
        return after, in_order

    def _apply_row(self, stream: StreamModel, incoming: ChangedRow) -> None:
        row = stream.rows.get(incoming.key)
        if row is None:
            self.sequence += 1
            stream.rows[incoming.key] = LedgerRow(incoming.state, dict(incoming.dots), incoming.born, self.sequence)
            return
        result = join_into(row.state, incoming.state)
        if result.is_local:
            return
        self.sequence += 1
        row.dots = dict(incoming.dots) if result.is_incoming else joined(row.dots, incoming.dots)
        if incoming.state.inserted > row.state.inserted:
            row.born = incoming.born
        row.state, row.seq = result.state, self.sequence

    def _move_cursor(self, stream: StreamModel, peer: str, changes: Changes) -> bool:
        start, stored = stream.cursors.get(peer, ("", 0))
        to_seq = changes.to_seq
        if start == changes.start:
            if changes.from_seq > stored:
                return False
            to_seq = max(to_seq, stored)
        elif changes.from_seq > 0 and changes.continues != (start, stored):
            return False
        stream.cursors[peer] = (changes.start, to_seq)
        return True

    def _map_cursor(self, start: str, sequence: int) -> int | None:
        for i, (known, _) in enumerate(self.starts):
            if known == start:
                return min(sequence, self.starts[i + 1][1]) if i + 1 < len(self.starts) else sequence
        return None
