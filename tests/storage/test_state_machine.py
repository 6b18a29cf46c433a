"""Hypothesis plays histories of every kind on two to four real databases, SQLite and PostgreSQL mixed.

After each step the ledgers must hold what the oracle says; in the end everybody meets everybody, and all are equal.

``P2P_SEEDS`` (``tests.seeds``) and ``P2P_STATE_MACHINE_STEPS`` make it play longer.
"""

from __future__ import annotations

import copy
import datetime
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from p2p_replication.protocol.changes import ChangedRow, pack_rows
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.row_state import RowState
from p2p_replication.storage import posting
from p2p_replication.storage.capture.installation import install, remove
from p2p_replication.storage.loose_rows import adopt_loose_rows
from p2p_replication.storage.posting import post, post_all
from p2p_replication.storage.replica_database import ReplicaDatabase
from tests.databases import Database, PostgreSQLDatabase, SQLiteFile
from tests.postgresql import PostgreSQLServer
from tests.seeds import TIMES
from tests.storage.row_oracle import LOW_BITS, NOTHING, State, join
from tests.storage.statements import (
    KEYS,
    Happened,
    Statement,
    event_of,
    execute,
    key_of,
    now_ms,
    read_tables,
    statements,
    values_of,
    wire,
)
from tests.storage.test_posting import SmallBudget
from tests.storage.watched_machine import FAR_MS, WatchedMachine, step
from tests.storage.watched_replica import Watched

EXAMPLES = 6 * TIMES
STEPS = int(os.environ.get("P2P_STATE_MACHINE_STEPS", "35"))
#: A failure of 35 steps takes minutes to shrink.
SHRINKS = "P2P_STATE_MACHINE_SHRINKS" in os.environ
PHASES = [phase for phase in Phase if phase is not Phase.explain and (SHRINKS or phase is not Phase.shrink)]
AT_ONCE = datetime.timedelta(0)

#: Of these models a new row has every field: they have no default that would do.
COMPLETE = ("testapp.Shelf", "testapp.Book", "testapp.Player")

who = st.integers(0, 11)
which = st.integers(0, 1)
number = st.integers(0, KEYS - 1)


class Undone(Exception):
    """Rolls a transaction back."""


class Machine(WatchedMachine):
    """The rules."""

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
                if event is None:
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


@pytest.mark.seeded
@pytest.mark.timeout(100 + EXAMPLES * STEPS)
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
