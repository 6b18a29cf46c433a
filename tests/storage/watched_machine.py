"""A machine of replicas that the oracle watches: how it begins, what holds after each step, and in the end."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial, wraps
from typing import Any

from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from p2p_replication.exceptions import StaleReplica
from p2p_replication.models import Parking
from p2p_replication.models.ledger import EntryStatus
from p2p_replication.protocol.messages import Changes
from p2p_replication.storage import posting
from p2p_replication.storage.parking import MISSING_PARENT, UNIQUE
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.replica_identity import renew_identity
from tests.databases import Database, attach, detach
from tests.storage.healing import PARENT_MODELS, PARENTS, revive, set_apart
from tests.storage.row_oracle import NOTHING, Oracle, Posted, Replica, Row, State, join
from tests.storage.statements import (
    CHOICES,
    now_ms,
    observed,
    read_tables,
)
from tests.storage.watched_replica import Watched, ledger_of, waiting_keys

#: Clocks of replicas are off by so many milliseconds.
SKEWS = (0, 0, 60_000, -3_600_000)
#: Further ahead than is allowed.
FAR_MS = 600_000


def step(method: Callable[..., None]) -> Callable[..., None]:
    """A rule: what it touched is checked after it; a replica that finds itself set back is started anew."""

    @wraps(method)
    def run(self: WatchedMachine, **arguments: Any) -> None:
        self.is_whole = False
        self.history.append(f"{method.__name__}({arguments})")
        try:
            try:
                method(self, **arguments)
            except StaleReplica:
                assert self.set_back, "nobody has set a database back"
                for replica in self.set_back:
                    replica.start()
                self.set_back.clear()
            for replica in self.replicas:
                with suppress(StaleReplica):
                    replica.database.check_identity()
                    if replica in self.set_back:
                        self.set_back.remove(replica)  # Nothing of what it knew was lost.
                    self.check(replica)
        except Exception as error:
            self.tell(error)
            raise
        self.is_whole = True

    return run


class WatchedMachine(RuleBasedStateMachine):
    """Replicas without rules. ``number % len(...)`` chooses among what there is."""

    new_database: Callable[[str, str], Database]
    drop_databases: Callable[[], None]

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle()
        self.replicas: list[Watched] = []
        self.backups: list[tuple[Watched, Database, Replica]] = []
        self.messages: list[tuple[Watched, Changes]] = []
        #: Replicas whose worker does not know yet that its database was set back.
        self.set_back: list[Watched] = []
        self.is_whole = True
        self.names = iter(f"r{i}" for i in range(1_000))
        self.numbers = itertools.count(1)
        self.history: list[str] = []

    @initialize(
        vendors=st.lists(st.sampled_from(("sqlite", "postgresql")), min_size=2, max_size=3),
        skews=st.tuples(*[st.sampled_from(SKEWS)] * 3),
        labels=st.sampled_from(CHOICES),
    )
    def begin(self, vendors: list[str], skews: tuple[int, ...], labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.history.append(f"{vendors} {skews} {labels}")
        for vendor, skew in zip(vendors, skews, strict=False):
            name = next(self.names)
            self.add(name, self.new_database(name, vendor), Replica(), skew)

    def add(self, name: str, site: Database, holds: Replica, skew: int) -> Watched:
        attach(name, site)
        self.oracle.replicas[name] = holds
        replica = Watched(name, site, self.oracle, self.labels, skew)
        self.replicas.append(replica)
        return replica

    def one(self, i: int) -> Watched:
        return self.replicas[i % len(self.replicas)]

    def pair(self, i: int) -> tuple[Watched, Watched]:
        first = i % len(self.replicas)
        rest = self.replicas[:first] + self.replicas[first + 1 :]
        return self.replicas[first], rest[i // len(self.replicas) % len(rest)]

    def label(self, i: int) -> str:
        return self.labels[i % len(self.labels)]

    def tell(self, error: Exception) -> None:
        """Say what was played: a failure that hangs on milliseconds can't be replayed."""
        error.add_note("\n".join(map(str, self.history)))

    def renew(self, replica: Watched) -> None:
        assert renew_identity(replica.alias, replica.database.replica_id, lambda: secrets.token_bytes(32))
        replica.start()

    # Checks

    def check(self, replica: Watched) -> None:
        """Ledger, table, parked rows and vectors are what the oracle says."""
        held = self.oracle.replicas[replica.alias]
        tables = read_tables(replica, self.labels)
        parked = set()
        for label in self.labels:
            found = ledger_of(replica.database, replica.stream(label))
            waiting = {replica.stream(label).table.key_to_wire(k) for k in waiting_keys(replica, label)}
            for model, key in held.waiting:
                assert model != label or key in waiting, f"{replica.alias} has not captured {held.waiting[model, key]}"
            for model, key in held.states:
                assert model != label or key in found, f"{replica.alias} has no version of {key}"
            for key, (entry, posted) in found.items():
                at = (label, key)
                if entry.status == EntryStatus.PARKED or (at in held.partly and at in held.parked):
                    parked.add(at)
                if key in waiting:
                    continue
                assert posted.state == held.states.get(at), (
                    f"{replica.alias}: {at} is {posted.state}, not {held.states.get(at)}"
                )
                self.oracle.name(label, key, posted.state, posted.dots)
                self.check_row(replica, at, entry.status, posted.state, tables[label].get(key))
            assert tables[label].keys() <= found.keys() | waiting, f"{replica.alias} has rows without a version"
            self.oracle.check_vector(replica.alias, label, replica.vector(label))
        held.parked = parked
        assert Parking.objects.using(replica.alias).count() == replica.parked()

    def check_row(self, replica: Watched, at: Any, status: int, state: State, row: Row | None) -> None:
        if status == EntryStatus.PARKED:
            return
        assert state.alive == (row is not None) == (status == EntryStatus.PRESENT), (
            f"{replica.alias}: {at} {state} {row}"
        )
        for name, (_, value) in state.fields.items() if row is not None else ():
            assert name not in row or row[name] == value, f"{replica.alias}: {at} is {row}, not {state}"

    def heard(self, database: ReplicaDatabase, entries: Sequence[posting.LogEntry]) -> None:
        """Log entries were posted, in a transaction that is open still."""
        numbers = {entry.id for entry in entries}
        for stream in database.by_number.values():
            keys = {entry.key for entry in entries if entry.stream == stream.id}
            if not keys or stream.label not in self.labels:
                continue
            found = ledger_of(database, stream)
            with database.connection.cursor() as cursor:
                cursor.execute("SELECT id, key FROM p2p_replication_changelogentry WHERE stream = %s", [stream.id])
                rest = {key for number, key in cursor.fetchall() if number not in numbers}
            told = []
            for key in keys:
                wire_key = stream.table.key_to_wire(key)
                posted = found[wire_key][1] if wire_key in found else Posted(wire_key, NOTHING, {}, None)
                told.append(replace(posted, is_part=key in rest))
            for posted in sorted(told, key=lambda posted: max(posted.dots.values(), default=0)):
                transaction.on_commit(partial(self.posted, database, stream.label, posted), using=database.alias)

    def posted(self, database: ReplicaDatabase, label: str, posted: Posted) -> None:
        try:
            self.oracle.posted(database.alias, label, database.start, posted)
        except Exception as error:  # Not one that the applier takes for a refusal.
            raise AssertionError(str(error)) from error

    # The end

    def teardown(self) -> None:
        try:
            if self.is_whole and self.replicas:
                self.finish()
        except Exception as error:
            self.tell(error)
            raise
        finally:
            for replica in self.replicas:
                detach(replica.alias)
            self.drop_databases()

    def finish(self) -> None:
        """Everybody meets everybody: all hold what anybody held, then all tables and parked rows are equal."""
        ids: set[str] = set()
        for replica in self.replicas:
            if replica in self.set_back:
                replica.start()
            if replica.database.replica_id in ids:
                self.renew(replica)
            ids.add(replica.database.replica_id)
            replica.post()
            self.check(replica)
        expected: dict[Any, State] = {}
        for held in self.oracle.replicas.values():
            for at, state in held.states.items():
                expected[at] = join(expected.get(at, NOTHING), state)
        self.settle()
        for replica in self.replicas:
            assert self.oracle.replicas[replica.alias].states == expected
        for _ in range(8):
            if not any(self.needs_a_person(replica) for replica in self.replicas):
                break
            for replica in self.replicas:
                replica.database.now_ms = lambda: now_ms() + 2 * FAR_MS  # The time has come for clocks ahead.
                self.heal(replica)
            self.settle()
        self.check_equal()

    def settle(self) -> None:
        for _ in range(12):
            for replica in self.replicas:
                replica.sent_rows = 0
            for i, one in enumerate(self.replicas):
                other = self.replicas[i - 1]
                one.pull(other, self.labels)
                other.pull(one, self.labels)
                one.retry_parked()
            for replica in self.replicas:
                self.check(replica)
            if not any(replica.sent_rows for replica in self.replicas):
                return
        raise AssertionError("the replicas do not come to rest")

    def needs_a_person(self, replica: Watched) -> bool:
        """Something is parked that is not so by the rules of unique values: those are to come to their end alone."""
        reasons = Parking.objects.using(replica.alias).values_list("reason", flat=True)
        return not set(reasons) <= {UNIQUE, MISSING_PARENT} or bool(self.lost_parents(replica))

    def lost_parents(self, replica: Watched) -> list[tuple[str, Any, Any]]:
        """Return ``(model, key, parent)`` of the parked rows that refer to a row that is deleted, or never was."""
        held = self.oracle.replicas[replica.alias]
        found = []
        for label, key in held.parked:
            _, parent = held.states[label, key].fields.get(PARENTS.get(label, ""), (0, None))
            if parent is not None and not held.states.get((PARENT_MODELS[label], parent), NOTHING).alive:
                found.append((label, key, parent))
        return found

    def heal(self, replica: Watched) -> None:
        """What a person would do about parked rows: bring back missing parents, and rows that others refer to."""
        happened = []
        with self.shifted(replica):
            for label, key, parent in self.lost_parents(replica):
                happened += observed(replica, self.labels, partial(revive, replica, label, parent, key))
            held = self.oracle.replicas[replica.alias]
            for label, key in held.parked:
                if not held.states[label, key].alive:
                    happened += observed(replica, self.labels, partial(set_apart, replica, label, key))
        self.record(replica, happened)

    def check_equal(self) -> None:
        first = self.replicas[0]
        for replica in self.replicas:
            assert not self.needs_a_person(replica), list(Parking.objects.using(replica.alias).values_list("detail"))
            parked, first_parked = (self.oracle.replicas[one.alias].parked for one in (replica, first))
            assert parked == first_parked
            assert replica.post().entries == 0
            assert replica.site.broken_references() == []
            replica.sent_rows = 0
            for label in self.labels:
                assert replica.canonical(label) == first.canonical(label)
                assert replica.vector(label) == first.vector(label)
        first.start()
        for one in self.replicas:
            for other in self.replicas:
                if one is not other:
                    one.pull(other, self.labels)
        assert [replica.sent_rows for replica in self.replicas] == [0] * len(self.replicas)
