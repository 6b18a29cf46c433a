"""What it takes to delete a row that others refer to: Django's rules, over the rows that are here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.models.deletion import Collector

from p2p_replication.models.ledger import EntryStatus
from p2p_replication.storage.applier import take_rows
from p2p_replication.storage.ledger import load_entries
from p2p_replication.storage.on_delete import Rule, ask
from p2p_replication.storage.referrers import Reference, Row, key_at, parents_of, references_to, referring
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.versions import is_ahead, state_of


@dataclass(frozen=True)
class Update:
    """Rows that are to refer to something else, or that do not replicate and are to go."""

    using: str
    reference: Reference
    keys: tuple[str, ...]
    value: Any = None
    deletes: bool = False

    def carry_out(self) -> None:
        stream = self.reference.stream
        key = stream.table.options.key_field.name if stream is not None else "pk"
        rows = self.reference.child._base_manager.using(self.using).filter(**{f"{key}__in": self.keys})
        if self.deletes:
            collector = Collector(using=self.using)
            collector.collect(rows)
            collector.delete()
        else:
            rows.update(**{self.reference.field.attname: self.value})


class WantedDelete:
    """Gathers what a delete means for all rows that refer to the row, and to those that go with it.

    Args:
        locking: in a write transaction; what the application has written to the rows is posted.

    Raises Busy if the application has its hands on one of the rows (``locking`` only).

    Attributes:
        dead: deleted rows, which go for good.
        deletes: rows that go with them, as a new change.
        updated: rows that refer to something else then.
        leaving: rows that no rule says anything of, or whose real state is parked and is not what the table says.
        is_protected: the row has to come back.
        is_blocked: nothing can be done.
    """

    def __init__(self, database: ReplicaDatabase, row: Row, *, locking: bool = False) -> None:
        self.database, self.row, self.locking = database, row, locking
        self.dead = {row: None}
        self.deletes: dict[Row, None] = {}
        self.updates: list[Update] = []
        self.updated: set[Row] = set()
        self.leaving: set[Row] = set()
        self._is_held = False
        self._protecting: set[Row] = set()
        self._restricting: set[Row] = set()
        self._referrers: dict[Row, set[Row]] = defaultdict(set)
        wave = [row]
        while wave:
            wave = [found for one in wave for found in self._follow(one)]

    @property
    def is_blocked(self) -> bool:
        return self._is_held and not self.is_protected

    @property
    def is_protected(self) -> bool:
        return bool(self._protecting or self._restricting - self.deletes.keys())

    def referrers_replicate_in(self, labels: Collection[str]) -> bool:
        """Tell whether all rows that would be changed are of these models."""
        changed = {*self.dead, *self.deletes, *self.updated, *self.leaving, *self._protecting, *self._restricting}
        return all(self.database.by_number[row.stream].label in labels for row in changed)

    def to_revive(self) -> set[Row]:
        """Return the deleted rows that the protecting ones depend on."""
        seen = {*self._protecting, *(self._restricting - self.deletes.keys())}
        wave, revived = set(seen), set()
        while wave:
            found: set[Row] = set()
            for row in wave:
                stream = self.database.by_number[row.stream]
                entry = load_entries(self.database.connection, row.stream, [row.key]).get(row.key)
                there = stream.table.read([row.key]).get(row.key)
                if entry is None or there is None:
                    continue
                if not entry.alive:
                    if is_ahead(stream, entry):
                        continue
                    revived.add(row)
                    values = dict(zip(stream.table.names, there, strict=True))
                else:
                    values = dict(state_of(stream, entry, there).values)
                found.update(parents_of(self.database, stream, row.key, values))
                # Those that it refers to by another field than their key (``to_field``) are not among these.
                found.update(parent for parent, referrers in self._referrers.items() if row in referrers)
            wave = found - seen
            seen |= wave
        return revived

    def leaves_first(self, limit: int) -> list[Row]:
        """Return the rows that go, those that nobody refers to first; some ``limit`` of them if they are more."""
        left, order = dict.fromkeys([*self.dead, *self.deletes]), list[Row]()
        while left and len(order) < limit:
            free = [row for row in left if not self._referrers[row] & left.keys()]
            # Rows that refer to each other go together, however many they are.
            free = free[: limit - len(order)] or list(left)
            order += free
            for row in free:
                del left[row]
        return order

    def _follow(self, row: Row) -> list[Row]:
        """Ask all who refer to a row; return those that go with it."""
        going: list[Row] = []
        stream = self.database.by_number[row.stream]
        for reference in references_to(self.database, stream):
            keys = [child for child, _ in referring(stream, reference, [row.key])]
            if not keys:
                continue
            if reference.stream is None:
                self._follow_outside(reference, keys)
                continue
            if self.locking:
                take_rows(self.database, reference.stream, keys)
            entries = load_entries(self.database.connection, reference.stream.id, keys)
            answer = ask(reference.field, self.database.alias)
            setting: list[str] = []
            for key in keys:
                child, entry = Row(reference.stream.id, key), entries.get(key)
                self._referrers[row].add(child)
                if child in self.dead or child in self.deletes:
                    continue
                if entry is None or (not entry.alive and is_ahead(reference.stream, entry)):
                    self._is_held = True  # Not posted yet; or it is to be deleted itself, later.
                elif not entry.alive:
                    self.dead[child] = None
                    going.append(child)
                elif entry.status == EntryStatus.PARKED:
                    self.leaving.add(child)
                elif answer.rule is Rule.DELETE:
                    self.deletes[child] = None
                    going.append(child)
                elif answer.rule is Rule.SET and self._is_possible(reference, answer.value):
                    setting.append(key)
                    self.updated.add(child)
                elif answer.rule is Rule.PROTECT:
                    self._protecting.add(child)
                elif answer.rule is Rule.RESTRICT:
                    self._restricting.add(child)
                else:
                    self.leaving.add(child)
            if setting:
                self.updates.append(Update(self.database.alias, reference, tuple(setting), answer.value))
        return going

    def _is_possible(self, reference: Reference, value: Any) -> bool:
        """A row must not be made to refer to a deleted row."""
        if value is None:
            return reference.field.null
        parent = reference.field.remote_field.model
        stream = self.database.streams.get(parent._meta.label)
        if stream is None:
            return False
        key = key_at(stream, reference.field, value)
        entry = load_entries(self.database.connection, stream.id, [key]).get(key) if key is not None else None
        return entry is not None and entry.status == EntryStatus.PRESENT

    def _follow_outside(self, reference: Reference, keys: Collection[str]) -> None:
        """Rows that do not replicate follow the delete, but can't forbid it to all others."""
        answer = ask(reference.field, self.database.alias)
        if answer.rule is Rule.DELETE and not self._is_referred_to(reference.child, keys):
            self.updates.append(Update(self.database.alias, reference, tuple(keys), deletes=True))
        elif answer.rule is Rule.SET and self._is_possible(reference, answer.value):
            self.updates.append(Update(self.database.alias, reference, tuple(keys), answer.value))
        else:
            self._is_held = True

    def _is_referred_to(self, model: type[models.Model], keys: Collection[str]) -> bool:
        """Tell whether Django would not simply delete these rows."""
        try:
            Collector(using=self.database.alias).collect(
                list(model._base_manager.using(self.database.alias).filter(pk__in=keys))
            )
        except (models.ProtectedError, models.RestrictedError):
            return True
        return False
