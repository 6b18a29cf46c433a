"""Learning of commits by LISTEN/NOTIFY, and by looking where that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from p2p_replication.worker import wakeups_postgresql
from p2p_replication.worker.wakeups_postgresql import PostgreSQLWakeups, listen_parameters
from tests.databases import PostgreSQLDatabase
from tests.live_replicas import until
from tests.worker.test_wakeups import Bell

INSERT = "INSERT INTO testapp_coin (code, name, rate) VALUES (%s, '', 0)"
#: Longer than any test: what rings meanwhile is a notification.
NEVER = 600.0


@pytest.fixture
def database(postgresql_template: str, new_postgresql: Callable[[], PostgreSQLDatabase]) -> PostgreSQLDatabase:
    return new_postgresql()


@asynccontextmanager
async def listening(
    database: PostgreSQLDatabase, monkeypatch: pytest.MonkeyPatch, *, deaf: float = NEVER, **overrides: Any
) -> AsyncIterator[tuple[PostgreSQLWakeups, Bell]]:
    """Wake-ups by notifications, and every ``deaf`` seconds while there are none."""
    monkeypatch.setattr(wakeups_postgresql, "LOOK_LISTENING", NEVER)
    monkeypatch.setattr(wakeups_postgresql, "LOOK_DEAF", deaf)
    monkeypatch.setattr(wakeups_postgresql, "RECONNECT", 0.1)
    bell = Bell()
    wakeups = PostgreSQLWakeups(listen_parameters(database.settings(), overrides), bell)
    task = asyncio.create_task(wakeups.run())
    try:
        yield wakeups, bell
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def at_rest(wakeups: PostgreSQLWakeups, bell: Bell) -> None:
    """Wait until somebody listens, and what rang at that is over."""
    await until(lambda: wakeups.listening and bell.rings, "somebody listens", 10)
    await asyncio.sleep(0.1)
    bell.rings = 0


async def test_a_commit_rings_and_a_rollback_does_not(
    database: PostgreSQLDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(database, monkeypatch) as (wakeups, bell):
        await at_rest(wakeups, bell)
        with closing(database.connect()) as connection:
            connection.execute("BEGIN")
            connection.execute(INSERT, ["rolled back"])
            connection.execute("ROLLBACK")
            connection.execute("UPDATE testapp_coin SET rate = 1")  # of no row
            connection.execute("SELECT * FROM testapp_coin")
            connection.execute("BEGIN")
            connection.execute(INSERT, ["committed"])
            await asyncio.sleep(0.5)
            assert bell.rings == 0
            connection.execute("COMMIT")
        await until(lambda: bell.rings, "the commit rings", 10)


async def test_many_writes_of_a_transaction_ring_once(
    database: PostgreSQLDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(database, monkeypatch) as (wakeups, bell):
        await at_rest(wakeups, bell)
        with closing(database.connect()) as connection, connection.transaction():
            for i in range(50):
                connection.execute(INSERT, [str(i)])
        await until(lambda: bell.rings, "the commit rings", 10)
        await asyncio.sleep(0.3)
        assert bell.rings == 1


async def test_a_listener_whose_connection_ends_looks_and_then_listens_again(
    database: PostgreSQLDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(database, monkeypatch, deaf=0.02) as (wakeups, bell):
        monkeypatch.setattr(wakeups_postgresql, "LOOK_LISTENING", 0.2)  # So long it may sleep through the end.
        await until(lambda: wakeups.listening, "somebody listens", 10)
        # As a server that is restarting: connections end, and new ones are refused.
        with closing(database.server.connect()) as other:
            other.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS false')
            await asyncio.to_thread(
                other.execute,
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                [database.name],
            )
            await until(lambda: not wakeups.listening, "nobody listens", 10)
            bell.rings = 0
            await until(lambda: bell.rings > 5, "the log is looked at", 10)
            monkeypatch.setattr(wakeups_postgresql, "LOOK_LISTENING", NEVER)
            other.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS true')
        assert "nobody tells of commits" in caplog.text
        await at_rest(wakeups, bell)
        database.outside((INSERT, ("after",)))
        await until(lambda: bell.rings, "a commit rings again", 10)


async def test_while_nobody_listens_the_log_is_looked_at(
    database: PostgreSQLDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(database, monkeypatch, deaf=0.02, dbname="not there") as (wakeups, bell):
        await until(lambda: bell.rings > 5, "it looks again and again", 10)
        assert not wakeups.listening


async def test_no_thread_is_left_behind(database: PostgreSQLDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(database, monkeypatch) as (wakeups, _):
        await until(lambda: wakeups.listening, "somebody listens", 10)
        assert any(thread.name == "p2p-listen" for thread in threading.enumerate())
    await until(lambda: not any(t.name == "p2p-listen" for t in threading.enumerate()), "the thread ends", 10)


def test_what_the_project_gives_for_listening_comes_before_what_django_has() -> None:
    options = {
        "pool": True, "isolation_level": 4, "server_side_binding": True, "assume_role": "x",
        "sslmode": "require", "options": "-c search_path=own", "application_name": "mysite",
    }  # fmt: skip
    django = {"NAME": "site", "USER": "u", "PASSWORD": "p", "HOST": "pgbouncer", "PORT": 6432, "OPTIONS": options}
    assert listen_parameters(django, {"host": "server", "port": 5432}) == {
        "dbname": "site", "user": "u", "password": "p", "host": "server", "port": 5432, "sslmode": "require",
        "options": "-c search_path=own", "application_name": "p2p_replication",
    }  # fmt: skip
    assert listen_parameters({"NAME": "", "OPTIONS": {"service": "s"}}, {}) == {
        "service": "s", "application_name": "p2p_replication",
    }  # fmt: skip
