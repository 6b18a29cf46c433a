"""Transactions beside each other: in whatever order they commit, each arrives, and none before its commit."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from django.db import connections

from p2p_replication.storage import posting
from p2p_replication.storage.capture.installation import drift, install, remove
from p2p_replication.storage.capture.reconciliation import Reconciled
from p2p_replication.storage.posting import post_entries
from tests.storage.test_capture import synced
from tests.testapp.models import Coin

COIN = "testapp.Coin"
INSERT = "INSERT INTO testapp_coin (code, name, rate) VALUES ('{0}', '', 0)"


def codes(alias: str) -> set[str]:
    return set(Coin.objects.using(alias).values_list("code", flat=True))


def log_ids(a) -> list[int]:
    return [number for (number,) in a.sql("SELECT id FROM p2p_replication_changelogentry ORDER BY id")]


@pytest.mark.on("postgresql")
def test_a_transaction_that_commits_late(replica):
    """Its log entries have lower ids than those that were posted long before they became visible."""
    a, b = replica("a"), replica("b")
    with closing(a.site.connect()) as late:
        late.execute("BEGIN")
        late.execute(INSERT.format("late"))
        a.outside(INSERT.format("early"))
        (early,) = log_ids(a)
        synced(a, b, COIN)
        assert codes("b") == {"early"}
        a.outside("UPDATE testapp_coin SET rate = 5")
        late.execute(INSERT.format("later"))
        late.execute("COMMIT")
        assert min(log_ids(a)) < early
    synced(a, b, COIN)
    assert codes("b") == {"early", "late", "later"}
    assert Coin.objects.using("b").get(code="early").rate == 5


@pytest.mark.on("postgresql")
def test_a_transaction_that_commits_while_the_log_is_posted(replica, monkeypatch):
    """Posting deletes what it has posted and nothing else, whatever has become visible among it since it was read."""
    a, b = replica("a"), replica("b")
    with closing(a.site.connect()) as late:
        late.execute("BEGIN")
        late.execute(INSERT.format("late"))
        Coin.objects.using("a").bulk_create(Coin(code=f"x{i:03}") for i in range(20))

        def commit_in_between(database, entries):
            late.execute("COMMIT")
            return post_entries(database, entries)

        with monkeypatch.context() as patched:
            patched.setattr(posting, "post_entries", commit_in_between)
            assert posting.post(a.database).entries == 20
    assert len(log_ids(a)) == 1
    synced(a, b, COIN)
    assert len(codes("b")) == 21


@pytest.mark.on("postgresql")
def test_two_transactions_that_write_different_rows(replica):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").bulk_create([Coin(code="1"), Coin(code="2")])
    synced(a, b, COIN)
    with closing(a.site.connect()) as one, closing(a.site.connect()) as two:
        for connection, code in ((one, "1"), (two, "2")):
            connection.execute("BEGIN")
            connection.execute(f"UPDATE testapp_coin SET rate = {code} WHERE code = '{code}'")
            connection.execute(INSERT.format(f"new{code}"))
        a.post()
        two.execute("COMMIT")
        synced(a, b, COIN)
        assert codes("b") == {"1", "2", "new2"}
        one.execute("ROLLBACK")
    synced(a, b, COIN)
    assert dict(Coin.objects.using("b").values_list("code", "rate")) == {"1": 0, "2": 2, "new2": 0}


@pytest.mark.on("postgresql")
def test_an_edit_that_waits_for_another_transactions_edit_of_the_row(replica):
    """The log has the two in the order in which they happened to the row."""
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="1")
    synced(a, b, COIN)
    with closing(a.site.connect()) as one, closing(a.site.connect()) as two:
        one.execute("BEGIN")
        one.execute("UPDATE testapp_coin SET rate = 1, name = 'one'")
        two.execute("SET statement_timeout = '50ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            two.execute("UPDATE testapp_coin SET rate = 2")
        a.post()
        one.execute("COMMIT")
        two.execute("UPDATE testapp_coin SET rate = 2")
    synced(a, b, COIN)
    assert list(Coin.objects.using("b").values_list("name", "rate")) == [("one", 2)]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_long_transaction_shows_nothing_before_its_end(replica, end):
    a, b = replica("a"), replica("b")
    with closing(a.site.connect()) as connection:
        connection.execute("BEGIN")
        for i in range(30):
            connection.execute(INSERT.format(i))
        b.pull(a, (COIN,))
        assert not codes("b") and not a.entries(COIN)
        connection.execute(end)
    synced(a, b, COIN)
    assert len(codes("b")) == (30 if end == "COMMIT" else 0)
    assert len(a.entries(COIN)) == len(codes("b"))


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_stricter_isolation(replica, level):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").bulk_create([Coin(code="1"), Coin(code="2")])
    synced(a, b, COIN)
    with closing(a.site.connect()) as connection:
        connection.execute(f"BEGIN ISOLATION LEVEL {level}")
        connection.execute("UPDATE testapp_coin SET rate = 1 WHERE code = '1'")
        a.outside("UPDATE testapp_coin SET rate = 2 WHERE code = '2'")
        a.post()
        connection.execute("DELETE FROM testapp_coin WHERE code = '1'")
        connection.execute(INSERT.format("3"))
        connection.execute("COMMIT")
    synced(a, b, COIN)
    assert dict(Coin.objects.using("b").values_list("code", "rate")) == {"2": 2, "3": 0}


@pytest.mark.on("postgresql")
def test_installation_waits_for_a_transaction_that_writes(replica):
    """And lets others write while it waits: a lock that waits for long would keep all of them out."""
    a, b = replica("a"), replica("b")
    remove("a")
    with closing(a.site.connect()) as writer, ThreadPoolExecutor(1) as thread:
        writer.execute("BEGIN")
        writer.execute(INSERT.format("during"))
        installation = thread.submit(installed_in_a_thread)
        deadline = time.monotonic() + 20
        while not a.sql("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'testapp_coin'::regclass"):
            assert time.monotonic() < deadline
        a.outside(INSERT.format("meanwhile"))
        assert not installation.done()
        writer.execute("COMMIT")
        assert installation.result(20)["testapp.Coin"].adopted == 2
    assert not drift("a")
    a.outside(INSERT.format("after"))
    synced(a, b, COIN)
    assert codes("b") == {"during", "meanwhile", "after"}


def installed_in_a_thread() -> dict[str, Reconciled]:
    try:
        return install("a")
    finally:
        connections["a"].close()


@pytest.mark.on("postgresql")
def test_a_rescan_locks_no_table(replica):
    a = replica("a")
    with closing(a.site.connect()) as writer:
        writer.execute("BEGIN")
        writer.execute(INSERT.format("open"))
        found = install("a", [COIN], because="rescan")
        assert not found[COIN].total
        writer.execute("COMMIT")
    assert len(log_ids(a)) == 1


@pytest.mark.on("postgresql")
def test_a_truncate_in_a_transaction_with_an_older_snapshot(replica):
    """TRUNCATE removes rows that its transaction can't see, and so can't the trigger: a rescan finds them."""
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="1")
    synced(a, b, COIN)
    with closing(a.site.connect()) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT 1 FROM testapp_coin")
        a.outside(INSERT.format("2"))
        synced(a, b, COIN)
        connection.execute("TRUNCATE testapp_coin")
        connection.execute("COMMIT")
    b.pull(a, (COIN,))
    assert codes("b") == {"2"}
    assert install("a", [COIN], because="rescan")[COIN].gone == 1
    synced(a, b, COIN)
    assert codes("b") == set()
