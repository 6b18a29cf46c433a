"""One replica's database: what ``p2p_replication.storage`` does, on plain dicts.

It mirrors storage without a database, so that many replicas run in one thread: here posting, vectors and what goes on
beside; ``storage_reading`` and ``storage_applying`` mirror ``changes`` and ``applier``. Work that takes several
transactions is a generator that yields after each commit: between two commits anything may happen, the application's
writes and the end of the process as well.

The model has one set of fields, no relations between rows and no filters (``where=``): those come with the issue that
brings them to storage.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterable, Mapping
from typing import TypeVar

from p2p_replication.protocol.clock import NEVER, is_too_far_ahead, milliseconds_of, next_clock
from p2p_replication.protocol.conflicts import begin_life, end_life, overwrite
from p2p_replication.protocol.row_state import RowState, Value
from p2p_replication.protocol.version_vector import Vector, covers, joined
from tests.simulation.oracle import Oracle, SimulationFault, Written
from tests.simulation.storage_content import Content, Cursor, Declaration, Entry, LogEntry, Status, Stream

FIELDS = ("body", "title")
#: How far a clock may be ahead, and how long a sender may be gone before its loose rows are adopted.
MAX_SKEW_MS = 300_000
LOOSE_GRACE = 30.0
#: Log entries that are posted in one transaction: few, so that a crash finds some posted and others not.
POST_ROWS = 3

T = TypeVar("T")
#: Work in the database's thread; it yields after each commit.
Work = Generator[None, None, T]


class StorageModel:
    """One replica's database; ``begin`` stands for the start of a worker on it.

    Attributes:
        refused: rows that this database refuses to take from others, as if a constraint were against them.
        copies: how often each row arrived; ``rows_read``: rows that were read for peers.
    """

    def __init__(self, name: str, pools: Iterable[str], labels: Iterable[str], oracle: Oracle) -> None:
        self.name, self.oracle = name, oracle
        #: In the clocks of what is written here.
        self.mark = int.from_bytes(name.encode()[:2].rjust(2), "big")
        labels = tuple(labels)
        self.content = Content(
            {label: Stream() for label in labels}, {(pool, label): Declaration() for pool in pools for label in labels}
        )
        self.start = ""
        self.refused: set[tuple[str, str]] = set()
        self.copies: Counter[tuple[str, str]] = Counter()
        self.rows_read = 0
        self._touched: dict[tuple[str, str], None] = {}
        self._changed: set[str] = set()

    @property
    def streams(self) -> dict[str, Stream]:
        return self.content.streams

    @property
    def declarations(self) -> dict[tuple[str, str], Declaration]:
        return self.content.declarations

    def begin(self, start: str) -> None:
        """Take a new origin, as every start of a worker does."""
        self.start = start
        self.content.starts.append((start, self.content.sequence))

    def save(self) -> Content:
        """Return a copy of the database."""
        return copy.deepcopy(self.content)

    def restore(self, backup: Content) -> None:
        """Put a backup back; ``begin`` a new start afterwards."""
        self.content = copy.deepcopy(backup)
        self.oracle.replaced(self)
        for label, stream in self.streams.items():
            self.touch((label, key) for key in stream.entries)
        self.commit()

    # -- the application ---------------------------------------------------------------------------------------------

    def write(self, label: str, key: str, values: Mapping[str, Value], wall: int) -> None:
        """Insert a row (all of its fields) or update some fields of it."""
        table = self.streams[label].table
        if key in table:
            table[key] |= values
            self.content.log.append(LogEntry(label, key, "update", tuple(values), wall))
        else:
            table[key] = {name: values.get(name) for name in FIELDS}
            self.content.log.append(LogEntry(label, key, "insert", FIELDS, wall))

    def delete(self, label: str, key: str, wall: int) -> None:
        if self.streams[label].table.pop(key, None) is not None:
            self.content.log.append(LogEntry(label, key, "delete", (), wall))

    # -- posting -----------------------------------------------------------------------------------------------------

    def posting(self) -> Work[None]:
        """Post all of the log, a slice a transaction."""
        while self.content.log:
            entries, self.content.log = self.content.log[:POST_ROWS], self.content.log[POST_ROWS:]
            self._post(entries)
            self.commit()
            yield

    def pending_keys(self, label: str) -> set[str]:
        return {entry.key for entry in self.content.log if entry.label == label}

    def post_keys(self, label: str, keys: Collection[str]) -> None:
        """Post what waits for these keys, inside the caller's transaction."""
        entries = [entry for entry in self.content.log if entry.label == label and entry.key in keys]
        if entries:
            self.content.log = [entry for entry in self.content.log if entry not in entries]
            self._post(entries)

    def _post(self, entries: Iterable[LogEntry]) -> None:
        by_row: dict[tuple[str, str], list[LogEntry]] = defaultdict(list)
        for entry in entries:
            by_row[entry.label, entry.key].append(entry)
        for (label, key), log in by_row.items():
            if self._fold(label, key, log):
                self.give_dot(label, key)

    def _fold(self, label: str, key: str, log: Iterable[LogEntry]) -> bool:
        """Fold a row's log entries into its ledger entry; False if there is nothing to say of it."""
        stream = self.streams[label]
        row, entry = stream.table.get(key), stream.entries.get(key) or Entry(RowState(NEVER, NEVER, NEVER))
        is_parked = entry.status is Status.PARKED
        inserted, deleted, born = entry.state.inserted, entry.state.deleted, entry.born
        clocks = {name: clock for name, (clock, _) in entry.state.fields().items()}
        past, given = dict(entry.state.past), NEVER
        latest, written, said = entry.state.latest(), set[str](), list[Written]()
        for item in log:
            clock = next_clock(item.wall, self.mark, latest)
            is_alive = inserted > deleted
            if item.operation == "delete":
                if not is_alive:
                    continue
                end_life(clocks, past, deleted, clock)
                deleted, written, is_parked = clock, set(), False
                said.append(Written(label, key, clock, "delete", {}))
            elif row is None:
                continue  # A later entry of the log says what became of the row.
            elif not is_alive:
                if clocks:
                    ended = max(deleted, *clocks.values())
                    end_life(clocks, past, deleted, ended)
                    deleted = ended
                begin_life(clocks, past, FIELDS, deleted, clock)
                inserted, born, is_parked = clock, None, False
                said.append(Written(label, key, clock, "insert", {}))
            else:
                if milliseconds_of(given) >= item.wall:
                    clock = given
                for name in item.fields:
                    overwrite(clocks, past, name, clock)
                written |= set(item.fields)
                said.append(Written(label, key, clock, "update", dict.fromkeys(item.fields)))
            latest = given = clock
        if not said or (inserted > deleted and row is None and not is_parked):
            return False
        values: Mapping[str, Value] = {}
        if inserted <= deleted:
            status = Status.DELETED
        elif is_parked and row is not None and not written.issuperset(FIELDS):
            # The row in the table is an older version of the parked one: what was written now counts in both.
            status = Status.PARKED
            values = {**entry.state.values, **{name: row[name] for name in written}}
        elif row is not None:
            status, values = Status.PRESENT, row
        else:
            status, values = Status.PARKED, entry.state.values
        state = RowState.of(inserted, deleted, {name: (clocks[name], values[name]) for name in clocks}, past)
        stream.entries[key] = Entry(state, entry.dots, born, entry.seq, entry.own_counter, status)
        self._remember(said, state)
        return True

    def _remember(self, said: Iterable[Written], state: RowState) -> None:
        """Note what was written, with the values that were posted, as far as no later write has replaced them."""
        fields = state.fields()
        for item in said:
            names = FIELDS if item.operation == "insert" else item.values
            values = {name: fields[name][1] for name in names if name in fields and fields[name][0] == item.clock}
            self.content.written.append(item._replace(values=values))

    def give_dot(self, label: str, key: str, *, keep: bool = False) -> None:
        """Give an entry the next counter of this origin (``keep``: beside the dots it has)."""
        entry = self.streams[label].entries[key]
        counter = self.take_sequence()
        others = {o: c for o, c in entry.dots.items() if o != self.start} if keep else {}
        entry.dots = {self.start: counter, **others}
        entry.own_counter = entry.seq = counter
        entry.born = entry.born or (self.start, counter)
        self.streams[label].own_vector[self.start] = counter
        self.oracle.given(self.start, counter, label, key, entry.state)
        self.touch([(label, key)])

    # -- the ledger --------------------------------------------------------------------------------------------------

    def take_sequence(self) -> int:
        self.content.sequence += 1
        return self.content.sequence

    def state_of(self, label: str, key: str) -> RowState:
        """Return an entry's state with the values that the table has now."""
        stream = self.streams[label]
        entry, row = stream.entries[key], stream.table.get(key)
        if entry.status is not Status.PRESENT or row is None:
            return entry.state
        state = entry.state
        return RowState(state.inserted, state.deleted, state.clock, dict(row), state.field_clocks, state.past)

    def settle(self, label: str, key: str, state: RowState) -> Status:
        """Bring the table's row to a state; return what that makes of its entry."""
        table = self.streams[label].table
        if not state.alive:
            table.pop(key, None)
            return Status.DELETED
        table[key] = dict(state.values)
        return Status.PRESENT

    @property
    def has_parked(self) -> bool:
        return any(
            entry.status is Status.PARKED for stream in self.streams.values() for entry in stream.entries.values()
        )

    def has_unfinished(self, pool: str) -> bool:
        """Tell whether a pull of this pool has not come to its end, and its rows are not adopted."""
        return any(
            cursor.unfinished_since is not None or cursor.broken_since is not None
            for (name, _), declaration in self.declarations.items()
            if name == pool
            for cursor in declaration.cursors.values()
        )

    def retry_parked(self, now_ms: int) -> Work[None]:
        """Try all parked rows again, in one transaction."""
        ended = False
        for label, stream in self.streams.items():
            keys = [key for key, entry in stream.entries.items() if entry.status is Status.PARKED]
            self.post_keys(label, keys)
            for key in keys:
                entry = stream.entries[key]
                ahead = is_too_far_ahead(entry.state.latest(), now_ms, MAX_SKEW_MS)
                if entry.status is Status.PARKED and not ahead and (label, key) not in self.refused:
                    entry.status = self.settle(label, key, entry.state)
                    self._changed.add(label)
                    ended = True
        if ended or self._touched:
            self.commit()
        yield

    def adopt_loose_rows(self, pool: str, now: float, connected: Collection[str]) -> Work[None]:
        """Give own dots to the rows of pulls that broke off, whose senders have been gone for a while."""
        for label, stream in self.streams.items():
            cursors = self.declarations[pool, label].cursors
            gone = [
                cursor
                for peer, cursor in cursors.items()
                if (peer not in connected and is_past(cursor.unfinished_since, now - LOOSE_GRACE))
                or (cursor.is_finished and is_past(cursor.broken_since, now - LOOSE_GRACE))
            ]
            if gone:
                for key, entry in sorted(stream.entries.items(), key=lambda item: item[1].seq):
                    if not covers(self.vector(pool, label), entry.dots):
                        self.give_dot(label, key, keep=True)
                self.commit()
                yield
                for cursor in gone:
                    cursor.unfinished_since = cursor.broken_since = None
                self.commit()
                yield

    # -- vectors and cursors -----------------------------------------------------------------------------------------

    def vector(self, pool: str, label: str) -> Vector:
        """Return what this replica has of a model: its own, and what it took from peers in any of its pools.

        The ledger is one for all pools. What came in one of them is there for the peers of the others, who learn of
        it by this vector.
        """
        assert (pool, label) in self.declarations
        own = self.streams[label].own_vector
        vector = dict(own)
        for (_, name), declaration in self.declarations.items():
            if name == label:
                vector = joined(vector, declaration.taken)
        # Of this start nobody knows more than we do, whatever a peer says.
        vector.pop(self.start, None)
        return {**vector, self.start: own[self.start]} if self.start in own else vector

    def position(self, pool: str, label: str, peer: str) -> tuple[Vector, tuple[str, int, int]]:
        """Return our vector, and how far this peer's ledger is read.

        The cursor of a pull that has not come to its end counts only for a peer that has all of the history up to its
        snapshot. One that was set back to a backup may have rows below the cursor that were above it, and were to come.
        """
        cursor = self.declarations[pool, label].cursors.get(peer) or Cursor("", 0)
        return self.vector(pool, label), (cursor.start, cursor.sequence, cursor.snapshot)

    def check_own_counter(self, label: str, vector: Mapping[str, int]) -> None:
        """Nobody knows a counter of this start that was not given: starts are never continued here."""
        if vector.get(self.start, 0) > self.streams[label].own_vector.get(self.start, 0):
            raise SimulationFault(f"{self.name}: a peer knows {self.start}:{vector[self.start]}, which was never given")

    def map_cursor(self, start: str, sequence: int, snapshot: int) -> int | None:
        """Translate a peer's cursor into our sequence: None if this history does not have what it speaks of."""
        starts = self.content.starts
        for i, (known, _) in enumerate(starts):
            if known == start:
                if i + 1 == len(starts):
                    return sequence
                return min(sequence, starts[i + 1][1]) if snapshot <= starts[i + 1][1] else None
        return None

    # -- transactions ------------------------------------------------------------------------------------------------

    def touch(self, rows: Iterable[tuple[str, str]]) -> None:
        self._touched |= dict.fromkeys(rows)

    def take_touched(self) -> list[tuple[str, str]]:
        touched, self._touched = list(self._touched), {}
        return touched

    def commit(self) -> None:
        """End a transaction: what it did counts from here on, and is checked."""
        self._changed |= {label for label, _ in self._touched}
        self.oracle.committed(self)

    def note_changed(self, label: str) -> None:
        self._changed.add(label)

    def take_changed(self) -> set[str]:
        """Return the labels of the models with new versions since the last call."""
        changed, self._changed = self._changed, set()
        return changed


def is_past(time: float | None, limit: float) -> bool:
    return time is not None and time < limit
