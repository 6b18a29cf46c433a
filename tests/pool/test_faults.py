"""Faults of the database and of the declarations under a running pool: it says so, and goes on when they are over."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction

from p2p_replication.models import ChangeLogEntry, Declaration, Peer, PeerState, Pool
from p2p_replication.pool.database_thread import DatabaseThread
from p2p_replication.transport.memory import MemoryHub
from tests.live_replicas import LABELS, TOPIC, LiveReplica, declare, equal, linked, until, use_database
from tests.testapp.models import Book, Note, Shelf

Live = Callable[..., LiveReplica]


async def hide(replica: LiveReplica, table: str) -> None:
    """Make a table unreadable for the worker, as a damaged database does."""
    await replica.sql(f"ALTER TABLE {table} RENAME TO {table}_hidden")


async def show(replica: LiveReplica, table: str) -> None:
    await replica.sql(f"ALTER TABLE {table}_hidden RENAME TO {table}")


async def with_error(replica: LiveReplica, text: str) -> bool:
    return any(text in error for error in await replica.errors())


@pytest.mark.parametrize("table", ["p2p_replication_ledgerentry", "p2p_replication_pullcursor"])
async def test_an_error_in_storage_ends_the_session_and_it_comes_back(live: Live, hub: MemoryHub, table: str) -> None:
    """Whether applying or the pull's own question fails: the error is shown, and once it is over all rows arrive."""
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    await hide(b, table)
    hub.cut(a.replica_id, b.replica_id)
    await a.do(Note.objects.bulk_create, [Note(title=f"n{i}") for i in range(10)])
    await until(lambda: with_error(b, "failed on this side"), "b shows what went wrong")
    assert b.alive
    await show(b, table)
    await equal(a, b)
    assert await b.count() == 10


async def test_rows_that_met_a_locked_database_are_applied_and_not_parked(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    """A lock is nobody's fault: the batch is tried again, no row of it counts as refused."""
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    assert b.supervisor is not None
    await b.supervisor.thread.run(_busy_timeout, b, 400)
    caplog.set_level(logging.INFO, "p2p_replication")
    with closing(sqlite3.connect(b.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await a.create(title="while b is locked")
        await asyncio.sleep(0.65)  # The first try ends in "database is locked", the next one finds it free.
        other.execute("ROLLBACK")
    await until(b.count, "the row arrives")
    assert "is parked" not in caplog.text


async def test_posting_goes_on_after_a_long_lock(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    assert a.supervisor is not None
    await a.supervisor.thread.run(_busy_timeout, a, 50)
    await a.create(title="before")
    with closing(sqlite3.connect(a.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE testapp_note SET title = 'in a long transaction'")
        await asyncio.sleep(1.5)
        other.execute("COMMIT")
    await until(lambda: b.count(title="in a long transaction"), "the write arrives")
    assert a.alive


def _busy_timeout(replica: LiveReplica, milliseconds: int) -> None:
    assert replica.supervisor is not None
    with replica.supervisor.database.connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout={milliseconds}")


async def test_a_change_is_told_even_if_nobody_waits_for_its_end_any_more(live: Live) -> None:
    """A session that ends while its batch is being applied must not keep the rows from the other peers."""
    told: list[set[str]] = []
    thread = DatabaseThread(told.append)
    replica = live("a")
    await replica.start()
    assert replica.supervisor is not None
    await thread.run(use_database, replica.site)
    thread.database = replica.supervisor.database
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def apply() -> None:
        loop.call_soon_threadsafe(began.set)
        time.sleep(0.2)
        assert thread.database is not None
        thread.database.note_changed(["testapp.Note"])

    caller = asyncio.create_task(thread.run(apply))
    await began.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await until(lambda: told == [{"testapp.Note"}], "the change is told", 3)
    await thread.close()


async def test_a_worker_killed_before_leaves_nobody_shown_as_connected(live: Live) -> None:
    """What the last worker left behind is corrected even if the new one meets nobody, and only errors."""
    a = live("a")
    await a.start()
    pool = await a.do(Pool.objects.get)
    await a.stop()
    await a.do(Peer.objects.create, pool=pool, replica_id="f" * 32, state=PeerState.CONNECTED, in_sync=True)
    await a.start()
    a.pool.reporter.error("something else is wrong")

    async def shown_as_gone() -> bool:
        return (await a.peers())["f" * 32].state == PeerState.GONE

    await until(shown_as_gone, "the peer is shown as gone")


async def test_cancelling_one_model_under_traffic_ends_only_its_part(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    for i in range(3):
        await a.create(title=f"before {i}")
        await a.create("testapp.Shelf", name=f"before {i}")
    await a.do(Declaration.objects.filter(model="testapp.Shelf").delete)
    for i in range(20):
        await a.create(title=f"after {i}")
        await asyncio.sleep(0.05)
    assert a.alive
    await until(lambda: b.count(title__startswith="after"), "notes go on")

    async def all_there() -> bool:
        return await b.count(title__startswith="after") == 20

    await until(all_there, "all notes arrive")


async def test_deleting_the_pools_row_under_traffic_ends_the_pool(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    a.pool.reporter.error("to be written when the pool is gone already")
    await a.do(Pool.objects.all().delete)
    assert a.supervisor is not None
    await until(lambda: a.supervisor is not None and not a.supervisor.running, "the pool has ended")
    assert a.alive
    await until(lambda: not b.links, "b sees a leave")
    await a.do(lambda: Note.objects.sync_p2p(TOPIC))
    await linked(a, b)


async def test_a_handler_that_cannot_be_made_shows_an_error_and_does_not_spin(
    live: Live, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The callable that fetches the token can't be imported: that is said, and not once a second."""
    account = {"default": {"SIGNALING_URL": "ws://127.0.0.1:9/", "TOKEN": "tests.testapp.nothing_here"}}
    settings.P2P_REPLICATION = {**settings.P2P_REPLICATION, "ACCOUNTS": account}
    a = live("a")
    with caplog.at_level(logging.INFO, "p2p_replication"):
        await a.start()
        await until(lambda: with_error(a, "nothing_here"), "the error is shown", 5)
        await asyncio.sleep(2.5)
    starts = [record for record in caplog.records if "starts with" in record.getMessage()]
    assert len(starts) == 1


async def test_children_are_retried_behind_any_number_that_cannot_be_helped(live: Live) -> None:
    """Rows that stay parked must not stand in the way of those whose parent has come."""
    a, b = live("a"), live("b")
    lost = await a.do(Shelf.objects.bulk_create, [Shelf(name="never comes"), Shelf(name="comes later")])
    await a.do(Book.objects.bulk_create, [Book(title=f"b{i}", shelf=lost[0]) for i in range(600)])
    await a.create("testapp.Book", title="the one", shelf=lost[1])
    await a.start("testapp.Book")
    await b.start("testapp.Book")

    async def all_parked() -> bool:
        return await b.parked() == 601

    await until(all_parked, "all books are parked")
    await b.create("testapp.Shelf", id=lost[1].pk, name="comes later")
    await until(lambda: b.count("testapp.Book", title="the one"), "the book whose shelf is there")
    assert await b.parked() == 600


def flush_with_an_empty_log() -> None:
    """Flush as when the change log happens to be the last of the tables: their order is left to chance."""
    with transaction.atomic():
        call_command("flush", interactive=False, verbosity=0)
        ChangeLogEntry.objects.all().delete()


@pytest.mark.parametrize("pause", [0.0, 1.5])
async def test_a_flush_under_a_running_worker_makes_a_new_replica_that_gets_everything(
    live: Live, pause: float
) -> None:
    """Whoever meets the emptied database first, a peer's batch or the poster: the worker opens it anew."""
    a, b = live("a"), live("b")
    await b.do(Note.objects.bulk_create, [Note(title=f"n{i}") for i in range(20)])
    await a.start()
    await b.start()
    await equal(a, b)
    await a.do(flush_with_an_empty_log)
    await asyncio.sleep(pause)
    await a.do(declare, LABELS, {})

    async def all_back() -> bool:
        assert a.alive, "the worker has died"
        return await a.count() == 20

    await until(all_back, "everything comes again")
    assert await b.count() == 20
    await b.create(title="and on it goes")
    await equal(a, b)
