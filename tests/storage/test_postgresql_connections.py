"""What a project sets for its connections does not matter to replication, and the end of one costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import Error, connections
from psycopg import IsolationLevel

from p2p_replication.models import LedgerEntry
from p2p_replication.pool.database_thread import close_dead_connections
from p2p_replication.storage.posting import post
from p2p_replication.storage.vendors.postgresql import LEDGER_LOCK
from tests.conftest import migrated
from tests.databases import PostgreSQLDatabase
from tests.storage.conftest import meet
from tests.storage.test_postgresql_concurrency import at_number
from tests.testapp.models import Book, Coin, Sample, Shelf

pytestmark = pytest.mark.on("postgresql")

COINS = ("testapp.Coin",)


@dataclass(frozen=True)
class Configured(PostgreSQLDatabase):
    """A database as a project with settings of its own has it."""

    more: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), **self.more}


@pytest.fixture
def configured(new_postgresql: Callable[[], PostgreSQLDatabase]) -> Callable[..., Configured]:
    """``configured(KEY=value)``: a new database with these entries in ``DATABASES``."""

    def make(**more: Any) -> Configured:
        plain = new_postgresql()
        return Configured(plain.server, plain.name, more)

    return make


def write_everywhere(alias: str, name: str) -> None:
    shelf = Shelf.objects.using(alias).create(name=name)
    Book.objects.using(alias).bulk_create(Book(shelf=shelf, title=f"{name}{i}") for i in range(20))
    Sample.objects.using(alias).create(
        text=name, whole=2**62, flag=True, real=0.1, amount="1.2300", day="2024-02-29",
        moment="2024-02-29T23:59:59.123456+05:00", clock="23:59:59.5", blob=b"\x00\xff", data={"a": [1, None]},
    )  # fmt: skip
    Coin.objects.using(alias).create(code=name, name=name)


def exchange_everything(a: Any, b: Any) -> None:
    labels = ("testapp.Shelf", "testapp.Book", "testapp.Sample", "testapp.Coin")
    for one in (a, b):
        write_everywhere(one.alias, one.alias)
    meet(a, b, labels=labels)
    Book.objects.using("b").filter(title__startswith="a").update(title="edited")
    Coin.objects.using("a").all().delete()
    meet(a, b, labels=labels)
    assert a.parked() == b.parked() == 0
    for label in labels:
        assert a.canonical(label) == b.canonical(label) != ([] if label != "testapp.Coin" else None)


@pytest.mark.parametrize(
    "settings",
    [
        {"OPTIONS": {"isolation_level": IsolationLevel.SERIALIZABLE}},
        {"OPTIONS": {"isolation_level": IsolationLevel.REPEATABLE_READ}},
        {"OPTIONS": {"server_side_binding": True}},
        {"OPTIONS": {"prepare_threshold": 0}},
        {"OPTIONS": {"options": "-c default_transaction_isolation=serializable -c synchronous_commit=off"}},
        {"OPTIONS": {"options": "-c lock_timeout=1 -c bytea_output=escape -c extra_float_digits=0"}},
        {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True, "ATOMIC_REQUESTS": True},
        {"DISABLE_SERVER_SIDE_CURSORS": True},
        {"TIME_ZONE": "America/St_Johns"},
    ],
    ids=["serializable", "repeatable read", "server-side binding", "prepared statements", "defaults of the session",
         "output formats", "persistent", "no cursors", "another time zone"],
)  # fmt: skip
def test_settings_of_the_project(replica, configured, settings):
    exchange_everything(replica("a"), replica("b", configured(**settings)))


def test_naive_times(replica, configured, settings):
    settings.USE_TZ = False
    settings.TIME_ZONE = "America/St_Johns"
    a, b = replica("a"), replica("b", configured())
    Sample.objects.using("a").create(moment="2024-02-29T23:59:59.123456")
    meet(a, b, labels=("testapp.Sample",))
    assert a.canonical("testapp.Sample") == b.canonical("testapp.Sample")
    assert Sample.objects.using("b").get().moment == Sample.objects.using("a").get().moment


def test_a_schema_of_its_own(replica, postgresql):
    plain = PostgreSQLDatabase(postgresql, postgresql.create())
    try:
        plain.outside('CREATE SCHEMA "own one"')
        path = {"OPTIONS": {"options": '-c search_path="own\\ one",public'}}
        database = Configured(plain.server, plain.name, path)
        migrated(database)
        with closing(plain.connect()) as connection:
            found = connection.execute("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'testapp_%'")
            assert found.fetchall() == [("own one",)]
        exchange_everything(replica("a"), replica("b", database))
        with closing(plain.connect()) as connection:  # Whoever writes there by another path is captured as well.
            connection.execute("INSERT INTO \"own one\".testapp_coin VALUES ('elsewhere', '', 0)")
        assert post(_database("b")).entries == 1
    finally:
        connections["b"].close()
        postgresql.drop(plain.name)


def _database(alias: str) -> Any:
    from p2p_replication.storage.replica_database import ReplicaDatabase

    return ReplicaDatabase(alias)


@pytest.mark.parametrize(
    "options",
    [
        {"options": "-c statement_timeout=100"},
        {"options": "-c lock_timeout=100"},
        {"isolation_level": IsolationLevel.SERIALIZABLE},
    ],
    ids=["statement_timeout", "lock_timeout", "serializable"],
)
def test_waiting_for_another_poster(replica, configured, options):
    """Longer than the project lets its own statements wait; then what was committed meanwhile is seen."""
    a = replica("a", configured(OPTIONS=options))
    Coin.objects.using("a").create(code="before")
    with closing(a.site.connect()) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LEDGER_LOCK])

        def release() -> None:
            other.execute("INSERT INTO testapp_coin VALUES ('meanwhile', '', 0)")
            other.execute("SELECT pg_advisory_unlock(%s)", [LEDGER_LOCK])

        timer = threading.Timer(0.5, release)
        timer.start()
        assert post(a.database).entries == 2
        timer.join()


def test_nothing_of_the_worker_stays_in_the_session(replica):
    """Behind PgBouncer the next transaction of the session is the application's."""
    a, b = replica("a"), replica("b")
    names = (
        "lock_timeout",
        "statement_timeout",
        "synchronous_commit",
        "transaction_isolation",
        "p2p_replication.applying",
    )
    with closing(b.site.connect()) as fresh:
        wanted = [fresh.execute("SELECT current_setting(%s, true)", [name]).fetchone()[0] for name in names]
    Coin.objects.using("a").create(code="x")
    meet(a, b, labels=COINS)
    Coin.objects.using("b").create(code="y")
    meet(a, b, labels=COINS)
    found = [b.sql("SELECT current_setting(%s, true)", [name])[0][0] for name in names]
    assert [value or None for value in found] == [value or None for value in wanted]


def kill(alias: str) -> None:
    """End the server's side of a connection, as an administrator or a restart does."""
    raw = connections[alias].connection
    with psycopg.connect(raw.info.dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [raw.info.backend_pid])


@pytest.mark.parametrize("act", ["post", "pull", "serve", "retry"])
def test_the_connection_is_killed_before_any_statement(replica, act):
    """Between transactions and inside of them: the next try gets everything through, and each row once."""
    a, b = replica("a"), replica("b")
    number, reached = 0, ["first"]
    while reached:
        number += 1
        for one in (a, b):
            Coin.objects.using(one.alias).create(code=f"{one.alias}{number}", name="new")
            Coin.objects.using(one.alias).filter(code=f"{one.alias}{number - 1}").update(name="old")
        if act == "retry":
            shelf = Shelf(name=str(number))
            Book.objects.using("a").create(shelf=_saved(shelf), title="early")
            b.pull(a, ("testapp.Book",))
            b.pull(a, ("testapp.Shelf",))
        victim = "a" if act == "serve" else "b"
        work = {"post": b.post, "pull": lambda: b.pull(a), "serve": lambda: b.pull(a), "retry": b.retry_parked}[act]
        with at_number(victim, number, partial(kill, victim)) as reached:
            try:
                work()
            except Error:
                close_dead_connections()  # as the database thread does
                work()
        assert not connections[victim].in_atomic_block
    meet(a, b)
    assert a.rows() == b.rows()
    assert a.parked() == b.parked() == 0
    assert number > 5
    for one in (a, b):
        dots = list(LedgerEntry.objects.using(one.alias).values_list("origin", "counter"))
        assert len(set(dots)) == len(dots)
        assert one.log() == []


def _saved(shelf: Shelf) -> Shelf:
    shelf.save(using="a")
    return shelf
