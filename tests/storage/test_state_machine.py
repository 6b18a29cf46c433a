"""Hypothesis plays histories of every kind on two to four real databases, SQLite and PostgreSQL mixed.

After each step the ledgers must hold what the oracle says; in the end everybody meets everybody, and all are equal.

``P2P_STATE_MACHINE_EXAMPLES`` and ``P2P_STATE_MACHINE_STEPS`` make it play longer.
"""

from __future__ import annotations

import copy
import datetime
import itertools
import os
import secrets
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from p2p_replication.exceptions import StaleReplica
from p2p_replication.models import Declaration, Parking, Pool
from p2p_replication.models.ledger import EntryStatus
from p2p_replication.protocol.changes import ChangedRow, pack_rows, unpack_rows
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.row_state import RowState
from p2p_replication.storage import posting
from p2p_replication.storage.capture.installation import install, remove
from p2p_replication.storage.held_fields import adopt_known_fields
from p2p_replication.storage.ledger import COLUMNS, TABLE, Entry
from p2p_replication.storage.loose_rows import adopt_loose_rows
from p2p_replication.storage.posting import post, post_all
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.replica_identity import renew_identity
from p2p_replication.storage.versions import state_of
from p2p_replication.storage.write_budget import WriteBudget
from tests.databases import Database, PostgreSQLDatabase, SQLiteFile, attach, detach
from tests.postgresql import PostgreSQLServer
from tests.replicas import TOPIC
from tests.storage.conftest import StorageReplica
from tests.storage.row_oracle import LOW_BITS, NOTHING, Oracle, Posted, Replica, Row, State, join
from tests.storage.statements import (
    CHOICES,
    KEYS,
    Happened,
    Statement,
    event_of,
    execute,
    key_of,
    now_ms,
    observed,
    read_tables,
    statements,
    values_of,
    wire,
)
from tests.storage.test_posting import SmallBudget
from tests.testapp.models import Ruled, Shelf, Team

EXAMPLES = int(os.environ.get("P2P_STATE_MACHINE_EXAMPLES", "40"))
STEPS = int(os.environ.get("P2P_STATE_MACHINE_STEPS", "35"))
#: A failure of 35 steps takes minutes to shrink.
SHRINKS = "P2P_STATE_MACHINE_SHRINKS" in os.environ
PHASES = [phase for phase in Phase if phase is not Phase.explain and (SHRINKS or phase is not Phase.shrink)]
AT_ONCE = datetime.timedelta(0)
#: Clocks of replicas are off by so many milliseconds.
SKEWS = (0, 0, 60_000, -3_600_000)
FAR_MS = 600_000

#: Of these models a new row has every field: they have no default that would do.
COMPLETE = ("testapp.Shelf", "testapp.Book", "testapp.Player")
PARENTS = {"testapp.Book": "shelf", "testapp.Player": "team", "testapp.Team": "captain"}

who = st.integers(0, 11)
which = st.integers(0, 1)
number = st.integers(0, KEYS - 1)


class Undone(Exception):
    """Rolls a transaction back."""


def plain(state: RowState) -> State:
    return State(state.inserted, state.deleted, state.fields())


def ledger_of(database: ReplicaDatabase, stream: StreamStore) -> dict[Any, tuple[Entry, Posted]]:
    """Return all that a ledger says of a model, by wire key."""
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE stream = %s", [stream.id])
        entries = [Entry.load(record) for record in cursor.fetchall()]
    rows = stream.table.read([entry.key for entry in entries])
    found = {}
    for entry in entries:
        row = rows.get(entry.key)
        dots = {database.origin_id(origin): counter for origin, counter in entry.dots().items()}
        named = dict(zip(stream.table.names, row, strict=True)) if row is not None else None
        key = stream.table.key_to_wire(entry.key)
        found[key] = entry, Posted(key, plain(state_of(stream, entry, row)), dots, named)
    return found


class Watched(StorageReplica):
    """A replica whose every exchange the oracle hears of."""

    def __init__(self, alias: str, site: Database, oracle: Oracle, labels: tuple[str, ...], skew: int) -> None:
        self.oracle, self.labels, self.skew = oracle, labels, skew
        super().__init__(alias, site)

    def start(self) -> None:
        """As a worker does; of the example's models only, as there are many starts."""
        self.database = ReplicaDatabase(self.alias, budget=WriteBudget(0.025, 0.0))
        self.pool, _ = Pool.objects.using(self.alias).get_or_create(account="default", topic=TOPIC)
        manager = Declaration.objects.using(self.alias)
        self.declarations = {label: manager.get_or_create(pool=self.pool, model=label)[0].pk for label in self.labels}
        for label in self.labels:
            adopt_known_fields(self.database, self.stream(label))

    def apply(self, other: Any, changes: Changes) -> Any:
        rows = [(row.key, plain(row.state)) for row in unpack_rows(changes.rows)]
        if changes.round:
            self.oracle.check_sent(other.alias, changes.model, rows)
        outcome = super().apply(other, changes)
        self.oracle.arrived(self.alias, changes.model, rows)
        return outcome

    def push(self, other: Any, label: str, push_from: int) -> Changes | None:
        changes = super().push(other, label, push_from)
        if changes is not None:
            self.oracle.check_sent(
                self.alias, label, [(row.key, plain(row.state)) for row in unpack_rows(changes.rows)]
            )
        return changes


def step(method: Callable[..., None]) -> Callable[..., None]:
    """A rule: what it touched is checked after it; a replica that finds itself set back is started anew."""

    @wraps(method)
    def run(self: Machine, **arguments: Any) -> None:
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


class Machine(RuleBasedStateMachine):
    """The rules. ``number % len(...)`` chooses among what there is."""

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

    # Writes

    @contextmanager
    def shifted(self, replica: Watched) -> Iterator[None]:
        """What is logged in the block has the time of this replica's clock."""
        ((last,),) = replica.sql("SELECT COALESCE(MAX(id), 0) FROM p2p_replication_changelogentry")
        yield
        if replica.skew:
            replica.sql(
                "UPDATE p2p_replication_changelogentry SET wall = wall + %s WHERE id > %s", [replica.skew, last]
            )

    def record(self, replica: Watched, happened: Happened) -> None:
        for label, key, event in happened:
            shifted = replace(event, since=event.since + replica.skew, until=event.until + replica.skew)
            self.oracle.write(replica.alias, label, key, shifted)

    @rule(i=who, written=st.lists(statements, min_size=1, max_size=4))
    @step
    def write(self, i: int, written: list[Statement]) -> None:
        replica = self.one(i)
        with self.shifted(replica):
            for statement in written:
                self.record(replica, execute(replica, self.labels, statement))

    @rule(
        i=who, kept=st.lists(statements, max_size=3), undone=st.lists(statements, max_size=2),
        later=st.lists(statements, max_size=2), commits=st.booleans(),
    )  # fmt: skip
    @step
    def write_in_a_transaction(self, i: int, kept: Any, undone: Any, later: Any, commits: bool) -> None:
        """With a savepoint that is rolled back in the middle, and perhaps rolled back as a whole."""
        replica, happened = self.one(i), []
        with self.shifted(replica), suppress(Undone, IntegrityError):
            with transaction.atomic(using=replica.alias):
                for statement in kept:
                    happened += execute(replica, self.labels, statement)
                with suppress(Undone), transaction.atomic(using=replica.alias):
                    for statement in undone:
                        execute(replica, self.labels, statement)
                    raise Undone
                for statement in later:
                    happened += execute(replica, self.labels, statement)
                if not commits:
                    raise Undone
            self.record(replica, happened)

    @rule(i=who, written=st.lists(statements, min_size=1, max_size=3))
    @step
    def write_in_a_gap(self, i: int, written: list[Statement]) -> None:
        """What is written while there are no triggers is found when they come back."""
        replica = self.one(i)
        before = read_tables(replica, self.labels)
        remove(replica.alias, reason="test")
        for statement in written:
            execute(replica, self.labels, statement)
        since, after = now_ms(), read_tables(replica, self.labels)
        with self.shifted(replica):
            install(replica.alias)
        held, happened = self.oracle.replicas[replica.alias], []
        for label in self.labels:
            for key in {*before[label], *after[label]}:
                event = event_of(before[label].get(key), after[label].get(key), False, False, since, now_ms())
                # A parked row is not compared: its state is not in the table.
                if event is None or (label, key) in held.parked:
                    continue
                if event.kind != "delete":
                    # What waits may be posted with it, under one clock.
                    is_known = event.kind == "edit" and (label, key) in held.waiting
                    event = replace(event, kind="replace" if is_known else "adopt")
                happened.append((label, key, event))
        self.record(replica, happened)

    @rule(i=who)
    @step
    def rescan(self, i: int) -> None:
        replica = self.one(i)
        waits = bool(replica.log())
        with self.shifted(replica):
            found = install(replica.alias, because="test")
        assert waits or not any(found[label].total for label in self.labels), f"nobody wrote {found}"

    @rule(i=who, label=which, key=number, v=number, fields=st.integers(1, 63), far=st.sampled_from((0, 0, 0, FAR_MS)))
    @step
    def hear_of_another_schema(self, i: int, label: int, key: int, v: int, fields: int, far: int) -> None:
        """A writer that knows another field and lacks some of ours, or whose clock is far ahead, pushes a row."""
        replica, model = self.one(i), self.label(label)
        wire_key = wire(key_of(model, key))
        held = self.oracle.replicas[replica.alias].states.get((model, wire_key), NOTHING)
        clock = max(held.latest() + 1, (now_ms() + far) << LOW_BITS)
        values = {name.removesuffix("_id"): wire(x) for name, x in values_of(replica, model, v).items()}
        lacking = set() if model in COMPLETE and not held.alive else set(values)
        values = {**values, "colour": v}
        chosen = {name: x for j, (name, x) in enumerate(values.items()) if fields >> j & 1 or name not in lacking}
        written = {name: (clock, x) for name, x in chosen.items()}
        if held.alive:
            state = join(held, State(held.inserted, held.deleted, written))
        else:
            state = State(clock, held.deleted, written)
        origin = f"{next(self.numbers):016x}"
        row = ChangedRow(wire_key, 1, {origin: 1}, (origin, 1), RowState.of(*state))
        self.oracle.name(model, wire_key, state, row.dots)
        rows = pack_rows(list(state.fields), [row])
        replica.apply(replica, Changes(model, 1, 0, origin, 0, 0, None, 0, {origin: 1}, 0, rows))

    # The worker

    @rule(i=who, count=st.sampled_from((1, 3, 1000)), whole=st.booleans())
    @step
    def post(self, i: int, count: int, whole: bool) -> None:
        database = self.one(i).database
        database.budget = SmallBudget(count)
        if whole:
            post_all(database)
        else:
            post(database)

    @rule(i=who, count=st.sampled_from((1, 3, 1000)))
    @step
    def restart(self, i: int, count: int) -> None:
        self.one(i).start()
        self.one(i).database.budget = SmallBudget(count)

    @rule(i=who)
    @step
    def retry(self, i: int) -> None:
        self.one(i).retry_parked()

    @rule(i=who, label=which)
    @step
    def adopt_loose_rows(self, i: int, label: int) -> None:
        replica, model = self.one(i), self.label(label)
        adopt_loose_rows(replica.database, replica.stream(model), replica.declarations[model], (), AT_ONCE)

    # Exchanges

    @rule(i=who)
    @step
    def pull_all(self, i: int) -> None:
        one, other = self.pair(i)
        one.pull(other, self.labels)

    @rule(i=who, label=which, size=st.sampled_from((0, 1, 3)), batches=st.sampled_from((1, 2, 100)))
    @step
    def pull_in_pieces(self, i: int, label: int, size: int, batches: int) -> None:
        one, other = self.pair(i)
        one.pull(other, (self.label(label),), batch_size=size, batches=batches)

    @rule(i=who, label=which, over_all=st.booleans(), how=st.sampled_from(("once", "twice", "later")))
    @step
    def push(self, i: int, label: int, over_all: bool, how: str) -> None:
        one, other = self.pair(i)
        reached = 0 if over_all else other.vector(self.label(label)).get(one.database.start, 0)
        changes = one.push(other, self.label(label), reached)
        if changes is not None and how != "later":
            other.apply(one, changes)
        if changes is not None and how != "once":
            self.messages.append((one, changes))

    @precondition(lambda self: self.messages)
    @rule(i=who, j=who)
    @step
    def deliver(self, i: int, j: int) -> None:
        """A push arrives late, again, or at another replica."""
        sender, changes = self.messages[j % len(self.messages)]
        if self.one(i) is not sender:
            self.one(i).apply(sender, changes)

    # Backups and copies

    @precondition(lambda self: len(self.backups) < 2)
    @rule(i=who)
    @step
    def back_up(self, i: int) -> None:
        replica = self.one(i)
        if replica not in self.set_back:
            self.backups.append((replica, replica.site.copy(next(self.names)), self.oracle.saved(replica.alias)))

    @precondition(lambda self: self.backups)
    @rule(i=who, tells=st.booleans())
    @step
    def restore(self, i: int, tells: bool) -> None:
        """A database is set back; its worker is started anew, or has to notice."""
        replica, site, held = self.backups[i % len(self.backups)]
        replica.site.set_back(site)
        self.oracle.replicas[replica.alias] = copy.deepcopy(held)
        if tells:
            replica.start()
        elif replica not in self.set_back:
            self.set_back.append(replica)

    @precondition(lambda self: len(self.replicas) < 4)
    @rule(i=who, renewed=st.booleans())
    @step
    def copy_database(self, i: int, renewed: bool) -> None:
        """The copy goes on as a replica of its own, at once or when it is found to be one."""
        original, name = self.one(i), next(self.names)
        if original in self.set_back:
            return
        copied = self.add(name, original.site.copy(name), self.oracle.saved(original.alias), original.skew)
        if renewed:
            self.renew(copied)

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
        """Everybody meets everybody: all hold what anybody held, then, with nothing parked, all tables are equal."""
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
            if not any(replica.parked() for replica in self.replicas):
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

    def heal(self, replica: Watched) -> None:
        """What a person would do about parked rows: free the values they wait for, bring back missing parents."""
        held, happened = self.oracle.replicas[replica.alias], []
        with self.shifted(replica):
            for label, key in held.parked:
                state = held.states[label, key]
                _, parent = state.fields.get(PARENTS.get(label, ""), (0, None))
                if parent is not None:
                    happened += observed(replica, self.labels, partial(revive, replica, label, parent, key))
            for label in self.labels:
                for key in read_tables(replica, (label,))[label]:
                    happened += observed(replica, self.labels, partial(set_apart, replica, label, key))
        self.record(replica, happened)

    def check_equal(self) -> None:
        first = self.replicas[0]
        for replica in self.replicas:
            assert replica.parked() == 0
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


def waiting_keys(replica: Watched, label: str) -> set[str]:
    return posting.pending_keys(replica.database, replica.stream(label))


def revive(replica: Watched, label: str, parent: bytes, key: bytes) -> None:
    """Bring a missing parent back; a captain who is gone leaves his team instead."""
    using, pk = replica.alias, uuid.UUID(bytes=parent)
    if label == "testapp.Book":
        Shelf.objects.using(using).get_or_create(pk=pk, defaults={"name": str(pk)})
    elif label == "testapp.Player":
        Team.objects.using(using).get_or_create(pk=pk, defaults={"name": "revived"})
    else:
        Team.objects.using(using).update_or_create(pk=uuid.UUID(bytes=key), defaults={"name": "", "captain": None})


def set_apart(replica: Watched, label: str, key: Any) -> None:
    """Give a row values that no other has."""
    if label == "testapp.Ruled":
        Ruled.objects.using(replica.alias).filter(pk=uuid.UUID(bytes=key)).update(code=None, left=None)
    elif label == "testapp.Shelf":
        Shelf.objects.using(replica.alias).filter(pk=uuid.UUID(bytes=key)).update(name=str(uuid.UUID(bytes=key)))


@pytest.mark.timeout(EXAMPLES * STEPS)
def test_every_history_is_what_the_oracle_says(
    template: Path,
    postgresql: PostgreSQLServer,
    postgresql_template: str,
    tmp_path: Path,
    django_db_blocker,
    monkeypatch,
) -> None:
    running: list[Machine] = []

    class OnDatabases(Machine):
        def __init__(self) -> None:
            super().__init__()
            self.folder = tmp_path / secrets.token_hex(4)
            self.folder.mkdir()
            postgresql.made.clear()
            running[:] = [self]

        def new_database(self, name: str, vendor: str) -> Database:
            if vendor == "postgresql":
                return PostgreSQLDatabase(postgresql, postgresql.create(postgresql_template))
            shutil.copy(template, self.folder / f"{name}.sqlite3")
            return SQLiteFile(self.folder / f"{name}.sqlite3")

        def drop_databases(self) -> None:
            for name in postgresql.made:
                postgresql.drop(name)
            shutil.rmtree(self.folder)

    post_entries = posting.post_entries

    def post_and_tell(database: ReplicaDatabase, entries: Sequence[posting.LogEntry]) -> posting.Posted:
        posted = post_entries(database, entries)
        running[0].heard(database, entries)
        return posted

    monkeypatch.setattr(posting, "post_entries", post_and_tell)
    with django_db_blocker.unblock():
        run_state_machine_as_test(
            OnDatabases,
            settings=settings(
                max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None, print_blob=True,
                suppress_health_check=list(HealthCheck), phases=PHASES,
            ),
        )  # fmt: skip
