"""Unique clashes: the older row keeps the value, on every replica alike (DESIGN 9).

A row is in its table if the rows that it refers to are, and no older row there has a unique value of its own. Going
through the rows by age gives the same tables everywhere, in whatever order they arrived. So a clash is decided when
the database has refused a row: by age, the row waits, or it comes in and those that hold its values leave their
tables, with what depends on them. Nothing is lost: whatever is in no table is parked, and passed on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from django.db import IntegrityError, OperationalError

from p2p_replication.models.ledger import EntryStatus, LedgerEntry, Parking
from p2p_replication.protocol.clock import NEVER, is_too_far_ahead
from p2p_replication.protocol.row_state import RowState
from p2p_replication.storage.applier import REFUSALS, is_busy, settle_entry, take_rows
from p2p_replication.storage.ledger import Entry, load_entries, save_entries
from p2p_replication.storage.parking import LEAVING, MISSING_PARENT, REFUSED, UNIQUE, end_parking, note_parked
from p2p_replication.storage.referrers import Row, parents_of
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.seniority import Seniority, seniority
from p2p_replication.storage.subsets import Subset, declared_subsets
from p2p_replication.storage.table import Busy, WireRow
from p2p_replication.storage.table_changes import TableChanges
from p2p_replication.storage.taking_out import CannotLeave, Reason, take_out
from p2p_replication.storage.unique_values import UniqueValues
from p2p_replication.storage.unlogged import unlogged
from p2p_replication.storage.versions import state_of

#: Parked rows that are looked at together.
PAGE = 4000
#: Looks at all parked rows, each of which lets some more in. Writes of the application could go on for ever.
ROUNDS = 20


@dataclass
class _Verdict:
    """What becomes of rows that want in together."""

    #: Those in the table that have to leave for them, and why.
    evicted: dict[Row, Reason] = field(default_factory=dict)
    #: The row that has to stay outside, and why; with it, all do.
    loser: Row | None = None
    why: str = ""
    #: The loser lost to an older row: what the table has of it goes.
    is_beaten: bool = False


def settle_clashes(database: ReplicaDatabase) -> int:
    """Decide who has the unique values that parked rows want; return how many came into their tables."""
    total = 0
    for i in range(ROUNDS):
        came = 0
        after = 0
        while page := _page(database, after):
            after = page[-1][0]
            came += _Page(database, [(Row(stream, key), why) for _, stream, key, *why in page], i > 0).settle()
        total += came
        if not came:
            break
    return total


def _page(database: ReplicaDatabase, after: int) -> list[tuple[int, int, str, str, str]]:
    """Return ``(id, stream, key, reason, detail)`` of parked entries."""
    parked = LedgerEntry.objects.using(database.alias).filter(
        status=EntryStatus.PARKED, stream__in=list(database.by_number), pk__gt=after
    )
    return list(parked.order_by("pk").values_list("pk", "stream", "key", "parking__reason", "parking__detail")[:PAGE])


class _Page:
    """Some parked rows, and what is decided about them.

    Args:
        is_changed: rows have come in or left since the database refused those that it did.
    """

    def __init__(self, database: ReplicaDatabase, rows: Sequence[tuple[Row, Sequence[str]]], is_changed: bool) -> None:
        self.database = database
        self.is_changed = is_changed
        self.reasons = {row: (why[0], why[1]) for row, why in rows}
        self.unique: dict[int, UniqueValues] = {}
        self.subsets: dict[int, list[Subset]] = {}
        self.states: dict[Row, RowState] = {}
        by_stream: dict[int, list[str]] = defaultdict(list)
        for row in self.reasons:
            by_stream[row.stream].append(row.key)
        for number, keys in by_stream.items():
            stream = database.by_number[number]
            for key, entry in load_entries(database.connection, number, keys).items():
                state = state_of(stream, entry, None)
                if self._is_waiting(stream, entry, state):
                    self.states[Row(number, key)] = state

    def settle(self) -> int:
        self._leave_out_what_refers_to_nothing()
        self._leave_out_what_lacks_parents()
        came: set[Row] = set()
        lost: set[Row] = set()
        for row in sorted(self.states, key=self._seniorities().__getitem__):
            if row in came or row in lost:
                continue
            group = self._needed(row, came)
            outside = group & lost or self._decide(group)
            if not outside:
                came |= group
                self.is_changed = True
                continue
            # As long as an earlier version of each is there, what the table has of this row can stay.
            if row not in outside and self._there(outside) != outside:
                other = min(outside)
                name = f"{self.database.by_number[other.stream].label} {other.key}"
                self._wait_for_parent(row, name, leaves=bool(self._there([row])))
            lost |= {row, *outside}
        return len(came)

    def _is_waiting(self, stream: StreamStore, entry: Entry, state: RowState) -> bool:
        ahead = is_too_far_ahead(state.latest(), self.database.now_ms(), self.database.max_skew_ms)
        is_alive = entry.status == EntryStatus.PARKED and state.alive
        return is_alive and not ahead and not self._leaves(stream, entry, state)

    def _leaves(self, stream: StreamStore, entry: Entry, state: RowState) -> bool:
        """Tell whether a row waits for its leave only: what it would have in the table lies outside of the filter."""
        if self.reasons[Row(stream.id, entry.key)][0] != LEAVING:
            return False
        if stream.id not in self.subsets:
            self.subsets[stream.id] = declared_subsets(self.database, stream)
        return not any(subset.includes(state) for subset in self.subsets[stream.id])

    def _leave_out_what_refers_to_nothing(self) -> None:
        """A peer may send what can't be a value of a foreign key: such rows were refused, whoever has their values."""
        by_stream: dict[int, list[Row]] = defaultdict(list)
        for row in self.states:
            by_stream[row.stream].append(row)
        for number, rows in by_stream.items():
            try:
                self._read_references(number, rows)
            except REFUSALS:
                for row in rows:
                    try:
                        self._read_references(number, [row])
                    except REFUSALS:
                        del self.states[row]

    def _read_references(self, number: int, rows: Sequence[Row]) -> None:
        relations = self.database.by_number[number].relations
        relations.missing_parents([(row.key, self.states[row].values) for row in rows], {}, {})

    def _leave_out_what_lacks_parents(self) -> None:
        """Rows wait for rows that wait themselves: repeat until nothing more falls out."""
        while True:
            arriving: dict[tuple[str, str], set[str]] = defaultdict(set)
            by_stream: dict[int, list[str]] = defaultdict(list)
            for row in self.states:
                table = self.database.by_number[row.stream].table
                arriving[table.name, table.key_column].add(row.key)
                by_stream[row.stream].append(row.key)
            lacking: dict[Row, str] = {}
            for number, keys in by_stream.items():
                relations = self.database.by_number[number].relations
                values = [(key, self.states[Row(number, key)].values) for key in keys]
                missing = relations.missing_parents(values, arriving, {})
                lacking |= {Row(number, key): parent for key, parent in missing.items()}
            there = self._there([row for row in lacking if self._has_waiting_parents(row)])
            for row, parent in lacking.items():
                self._wait_for_parent(row, parent, leaves=row in there)
            for row in lacking:
                del self.states[row]
            if not lacking:
                return

    def _has_waiting_parents(self, row: Row) -> bool:
        stream = self.database.by_number[row.stream]
        return any(
            parent in self.reasons for parent in parents_of(self.database, stream, row.key, self.states[row].values)
        )

    def _there(self, rows: Collection[Row]) -> set[Row]:
        """Return those of the rows that the tables have an earlier version of."""
        by_stream: dict[int, list[str]] = defaultdict(list)
        for row in rows:
            by_stream[row.stream].append(row.key)
        found = {number: self.database.by_number[number].table.read(keys) for number, keys in by_stream.items()}
        return {Row(number, key) for number, present in found.items() for key in present}

    def _wait_for_parent(self, row: Row, parent: str, *, leaves: bool) -> None:
        """What the table still has of a row goes if its parent is here and waits itself: then nobody else has it."""
        reason = (MISSING_PARENT, parent)
        if self.reasons[row][0] in (UNIQUE, REFUSED):
            self._note(row, reason)
        if leaves:
            with suppress(CannotLeave, Busy, ValueError), self.database.writing():
                self._take([row])
                take_out(self.database, {row: reason})

    def _seniorities(self) -> dict[Row, Seniority]:
        return {row: seniority(self.database, row) for row in self.states}

    def _needed(self, row: Row, came: Collection[Row]) -> set[Row]:
        """Return a row with all parked rows that it refers to: they can come in together only."""
        group, wave = {row}, [row]
        while wave:
            one = wave.pop()
            for parent in parents_of(
                self.database, self.database.by_number[one.stream], one.key, self.states[one].values
            ):
                if parent in self.states and parent not in came and parent not in group:
                    group.add(parent)
                    wave.append(parent)
        return group

    def _is_worth_a_try(self, group: Collection[Row]) -> bool:
        """What the database refuses for another reason than a clash was tried a moment ago."""
        if self.is_changed or any(self.reasons[row][0] != REFUSED for row in group):
            return True
        verdict = self._judge(group)
        return bool(verdict.evicted) or verdict.loser is not None

    def _decide(self, group: set[Row]) -> set[Row]:
        """Let rows in together if nothing older is in the way, else take out what lost; return those that stay out."""
        if not self._is_worth_a_try(group):
            return group
        verdict = self._judge(group)
        if verdict.loser is None:
            try:
                with self.database.writing():
                    verdict = self._judge(group, locking=True)
                    if verdict.loser is None:
                        take_out(self.database, verdict.evicted)
                        self._let_in(group)
                        return set()
            except CannotLeave as error:
                row = next(iter(verdict.evicted))
                verdict = _Verdict(loser=min(group), why=f"{verdict.evicted[row][1]}; but {error}")
            except (*REFUSALS, OperationalError) as error:
                if isinstance(error, OperationalError) and not is_busy(self.database, error):
                    raise
                if isinstance(error, IntegrityError):
                    self._refused(group, verdict, str(error))
                return group
        assert verdict.loser is not None
        self._stay_out(group, verdict.loser, verdict)
        return {verdict.loser}

    def _judge(self, group: Collection[Row], *, locking: bool = False) -> _Verdict:
        """Compare ages with those who hold the values. ``locking``: in a write transaction, and for good."""
        verdict = _Verdict()
        if locking:
            self._take(group)
        for row in sorted(group):
            stream = self.database.by_number[row.stream]
            if row.stream not in self.unique:
                self.unique[row.stream] = UniqueValues(stream)
            holders = self.unique[row.stream].holders(row.key, self.states[row].values)
            holders = {key: name for key, name in holders.items() if Row(row.stream, key) not in group}
            if locking and holders:
                take_rows(self.database, stream, list(holders))
            entries = load_entries(self.database.connection, row.stream, list(holders))
            for key, name in holders.items():
                holder, entry = Row(row.stream, key), entries.get(key)
                taken = f"{name}: {stream.label} {key} has it"
                if entry is not None and not entry.alive:
                    return _Verdict(loser=row, why=f"{taken}, and is to be deleted")
                if (entry is None or entry.status == EntryStatus.PRESENT) and self._is_older(holder, row):
                    return _Verdict(loser=row, why=f"{taken}, and is older", is_beaten=True)
                verdict.evicted[holder] = (UNIQUE, f"{name}: {stream.label} {row.key} has it, and is older")
        return verdict

    def _is_older(self, holder: Row, row: Row) -> bool:
        """Of two rows that depend on each other neither can be there without the other, so both stay out."""
        return seniority(self.database, holder) <= seniority(self.database, row)

    def _refused(self, group: Collection[Row], verdict: _Verdict, text: str) -> None:
        """Rows that need each other and clash among themselves stay out together, with what the table has of them."""
        if len(group) == 1:
            if not verdict.evicted:
                self._note(min(group), (REFUSED, text))
            return
        there = [row for row in group if self.database.by_number[row.stream].table.read([row.key])]
        if there:
            with suppress(CannotLeave, Busy), self.database.writing():
                self._take(group)
                take_out(self.database, dict.fromkeys(there, (UNIQUE, text)))
        for row in group:
            self._note(row, (UNIQUE, f"it and rows that it refers to are in each other's way: {text}"))

    def _take(self, group: Collection[Row]) -> dict[Row, tuple[Entry, WireRow | None]]:
        """Lock parked rows, and post what waits for them; their states may be others then."""
        taken: dict[Row, tuple[Entry, WireRow | None]] = {}
        for row in group:
            stream = self.database.by_number[row.stream]
            entries, present = take_rows(self.database, stream, [row.key])
            entry = entries[row.key]
            state = state_of(stream, entry, None)
            if not self._is_waiting(stream, entry, state):
                raise ValueError(f"{stream.label} {row.key} waits no more")
            self.states[row] = state
            taken[row] = (entry, present.get(row.key))
        return taken

    def _let_in(self, group: Collection[Row]) -> None:
        taken, plans = self._take(group), dict[int, TableChanges]()
        arriving: Mapping[tuple[str, str], set[str]] = defaultdict(set)
        for row, (_, present) in taken.items():
            stream = self.database.by_number[row.stream]
            plan = plans.setdefault(row.stream, TableChanges(stream))
            # A row that is there may be of an earlier life: the ledger has the parked one only.
            plan.add(row.key, self.states[row], present, of_earlier_life=self.states[row].deleted > NEVER)
            arriving[stream.table.name, stream.table.key_column].add(row.key)
        for plan in plans.values():
            if plan.refused(arriving):
                raise ValueError("a parent has gone")
        new = {table: keys for plan in plans.values() for table, keys in plan.new_keys().items()}
        for number, plan in plans.items():
            stream = self.database.by_number[number]
            entries = {row.key: entry for row, (entry, _) in taken.items() if row.stream == number}
            with unlogged(self.database):
                plan.write(swapping=len(group) > 1, new=new)
                end_parking(self.database, stream, list(entries))
            for key, entry in entries.items():
                settle_entry(stream, entry, self.states[Row(number, key)], plan.awaited.get(key, ()))
            save_entries(self.database.connection, number, list(entries.values()))
            self.database.note_changed([stream.label])

    def _stay_out(self, group: Collection[Row], row: Row, verdict: _Verdict) -> None:
        """Take what a loser still has in the table out of it, and say why it waits. Nothing is written at rest."""
        stream = self.database.by_number[row.stream]
        reason = (UNIQUE, verdict.why)
        if verdict.is_beaten and stream.table.read([row.key]):
            try:
                with self.database.writing():
                    again = self._judge(group, locking=True)
                    if again.loser == row and again.is_beaten:
                        take_out(self.database, {row: reason})
            except CannotLeave as error:
                reason = (UNIQUE, f"{verdict.why}; an earlier version stays here, as {error}")
            except (ValueError, OperationalError) as error:
                if isinstance(error, OperationalError) and not is_busy(self.database, error):
                    raise
                return
        self._note(row, reason)

    def _note(self, row: Row, reason: Reason) -> None:
        if self.reasons[row] != reason:
            with self.database.writing():
                if (
                    Parking.objects.using(self.database.alias)
                    .filter(entry__stream=row.stream, entry__key=row.key)
                    .exists()
                ):
                    note_parked(self.database, self.database.by_number[row.stream], {row.key: reason})
