"""The application locks rows in any order, and never gets a deadlock because of the worker."""

from __future__ import annotations

import threading

import pytest

from tests.storage.conftest import meet
from tests.storage.test_postgresql_locks import COINS, NOTES, at_statement, pair_with_notes
from tests.testapp.models import Coin, Note

pytestmark = pytest.mark.on("postgresql")


def test_the_application_never_gets_a_deadlock(replica):
    """It locks rows in the other order, again and again, while batches with the same rows arrive."""
    a, b, notes = pair_with_notes(replica, 8)
    keys = sorted((note.pk for note in notes), reverse=True)
    errors: list[BaseException] = []
    rounds = 0
    stop = threading.Event()

    def write() -> None:
        nonlocal rounds
        connection = b.site.connect()
        try:
            while not stop.is_set() or rounds < 3:
                connection.execute("BEGIN")
                for key in keys:
                    connection.execute("UPDATE testapp_note SET stars = stars + 1 WHERE id = %s", [key])
                connection.execute("COMMIT")
                rounds += 1
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(30):
            Note.objects.using("a").update(body=f"round {i}")
            b.pull(a, NOTES)
            b.post()
            b.retry_parked()
    finally:
        stop.set()
        writer.join(60)
    assert errors == []
    meet(a, b, labels=NOTES)
    assert a.rows() == b.rows()
    assert {n.body for n in Note.objects.using("b").all()} == {"round 29"}
    assert {n.stars for n in Note.objects.using("a").all()} == {rounds}


def test_a_deadlock_ends_with_the_worker_giving_way(replica):
    """The application holds what the worker waits for, and wants what the worker holds."""
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="held", name="old")
    meet(a, b, labels=COINS)
    Coin.objects.using("a").update(name="peer")
    Coin.objects.using("a").create(code="new", name="peer")
    application = b.site.connect()
    application.execute("BEGIN")
    application.execute("INSERT INTO testapp_coin (code, name, rate) VALUES ('new', 'application', 2)")
    errors: list[BaseException] = []

    def want() -> None:
        try:
            application.execute("UPDATE testapp_coin SET rate = 9 WHERE code = 'held'")
            application.execute("COMMIT")
        except BaseException as error:
            errors.append(error)

    wanting = threading.Thread(target=want)
    # The worker has locked "held" and is about to insert "new", where it will wait.
    with at_statement("b", "SKIP LOCKED", wanting.start):
        b.pull(a, COINS)
    wanting.join(60)
    application.close()
    assert errors == []
    meet(a, b, labels=COINS)
    assert a.rows() == b.rows()
    assert {(c.code, c.name, c.rate) for c in Coin.objects.using("a").all()} == {
        ("held", "peer", 9), ("new", "application", 2),
    }  # fmt: skip
