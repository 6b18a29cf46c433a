"""Workers on PostgreSQL: told of commits, held up by nobody's transaction, and back after their connections end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from p2p_replication.models import Parking
from p2p_replication.worker import supervisor, wakeups_postgresql
from tests.live_replicas import LiveReplica, equal, linked, until
from tests.testapp.models import Note

Live = Callable[..., LiveReplica]

#: Longer than any test.
NEVER = 600.0
INSERT = "INSERT INTO testapp_note (id, title, body, stars, updated_at) VALUES (gen_random_uuid(), %s, '', 0, now())"


@pytest.fixture
def notified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks: what a worker on PostgreSQL knows of commits it knows from notifications."""
    monkeypatch.setattr(wakeups_postgresql, "LOOK_LISTENING", NEVER)
    monkeypatch.setattr(wakeups_postgresql, "LOOK_DEAF", NEVER)


def end_connections(replica: LiveReplica) -> None:
    """End all connections to a replica's database, as a server that is restarted does."""
    with closing(replica.site.connect()) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.on("postgresql", "mixed")
async def test_a_commit_of_anybody_crosses_by_notification(live: Live, notified: None) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    pg = a if a.site.vendor == "postgresql" else b
    other = b if pg is a else a
    with closing(pg.site.connect()) as psql:
        for i in range(3):
            psql.execute(INSERT, [f"outside{i}"])
            await until(lambda i=i: other.count(title=f"outside{i}"), "the row arrives")
    await other.create(title="back")
    await until(lambda: pg.count(title="back"), "the other direction works as well")
    await equal(a, b)


@pytest.mark.on("postgresql", "mixed")
async def test_connections_that_end_cost_nothing(live: Live) -> None:
    """At any time, with writes on both sides: the workers go on, and every row is there once."""
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    pg = [replica for replica in (a, b) if replica.site.vendor == "postgresql"]

    async def write(replica: LiveReplica, title: str) -> None:
        def insert() -> None:
            with closing(replica.site.connect()) as connection:
                if replica.site.vendor == "postgresql":
                    connection.execute(
                        "INSERT INTO testapp_note (id, title, body, stars, updated_at) "
                        "SELECT gen_random_uuid(), %s || i, '', 0, now() FROM generate_series(1, 50) i", [title],
                    )  # fmt: skip

        if replica.site.vendor == "postgresql":
            await replica.do(insert)
        else:
            await replica.do(Note.objects.bulk_create, [Note(title=f"{title}{i}") for i in range(50)])

    for i in range(6):
        for replica in (a, b):
            await write(replica, f"{replica.name}{i}-")
        for replica in pg:
            await replica.do(end_connections, replica)
            # The application's own connection is gone as well.
            await replica.do(_close_connections)
    await equal(a, b, timeout=60)
    assert a.alive
    assert b.alive
    assert await a.count() == 600
    await linked(a, b)
    assert await a.parked() == await b.parked() == 0


def _close_connections() -> None:
    from django.db import connections

    connections["default"].close()


@pytest.mark.on("postgresql")
async def test_a_locked_row_comes_in_after_the_commit(
    live: Live, monkeypatch: pytest.MonkeyPatch, notified: None
) -> None:
    """By itself, and merged with what was written under the lock; other rows do not wait for it."""
    monkeypatch.setattr(supervisor, "RETRY_PARKED", NEVER)
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    note = await a.create(title="locked", body="old")
    await until(lambda: b.count(), "the row arrives")
    with closing(b.site.connect()) as application:
        application.execute("BEGIN")
        application.execute("UPDATE testapp_note SET stars = 7 WHERE id = %s", [note.pk])
        await a.do(Note.objects.filter(pk=note.pk).update, body="new")
        await until(lambda: b.do(_reasons), "the row is parked")
        assert await b.do(_reasons) == ["locked by the application"]
        await a.create(title="other")
        await until(lambda: b.count(title="other"), "another row arrives")
        application.execute("COMMIT")
    await equal(a, b)
    assert await a.count(stars=7, body="new") == 1
    assert await b.parked() == 0


@pytest.mark.on("postgresql")
async def test_a_delete_of_a_locked_row_comes_in_after_the_commit(
    live: Live, monkeypatch: pytest.MonkeyPatch, notified: None
) -> None:
    monkeypatch.setattr(supervisor, "RETRY_PARKED", NEVER)
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    note = await a.create(title="locked")
    await until(lambda: b.count(), "the row arrives")
    with closing(b.site.connect()) as application:
        application.execute("BEGIN")
        application.execute("UPDATE testapp_note SET stars = 7 WHERE id = %s", [note.pk])
        await a.do(note.delete)
        await until(lambda: b.do(_reasons), "the row is parked")
        application.execute("COMMIT")
    await equal(a, b)
    assert await a.count() == 0


def _reasons() -> list[Any]:
    return list(Parking.objects.values_list("reason", flat=True))
