"""``manage.py p2p parked``: parked rows with their reasons, and trying them again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from p2p_replication.management.parked_rows import REMEDIES
from p2p_replication.storage import parking
from tests.live_replicas import LiveReplica, until
from tests.management.commands import on, run, run_json
from tests.replicas import TestReplica
from tests.testapp.models import Book, Shelf

Live = Callable[..., LiveReplica]


async def book_without_a_shelf(live: Live) -> tuple[LiveReplica, LiveReplica, Shelf, Book]:
    a, b = live("a"), live("b")
    shelf = await a.create("testapp.Shelf", name="s")
    book = await a.create("testapp.Book", title="t", shelf=shelf)
    await a.start("testapp.Book")
    await b.start("testapp.Book")
    await until(b.parked, "the book waits for its shelf")
    return a, b, shelf, book


async def test_a_parked_row_is_shown_with_its_reason_its_origin_and_what_helps(live: Live) -> None:
    a, b, shelf, book = await book_without_a_shelf(live)
    answer, error = await on(b, "parked")
    (row,) = answer["parked"]
    assert (row["model"], row["key"], row["reason"]) == ("testapp.Book", book.pk.hex, "missing parent")
    assert row["detail"] == f"testapp.Shelf {shelf.pk.hex}"
    assert a.replica_id[:8] in row["origin"]
    assert "declare the parent's model" in row["remedy"]
    assert row["tries"] >= 1 and row["since"]
    assert error == ""
    printed, _ = await b.do(run, "parked", "testapp.book")
    assert "missing parent: testapp.Shelf" in printed
    assert max(map(len, printed.splitlines())) <= 100
    assert await b.do(run, "parked", "testapp.Note") == ("No row of testapp.Note is parked.\n", "")


async def test_the_worker_tries_again_when_it_is_asked_to(live: Live) -> None:
    _, b, shelf, _ = await book_without_a_shelf(live)
    answer, _ = await on(b, "parked", "--retry")
    assert answer["retried"] == {"by": "worker", "ended": 0}
    assert len(answer["parked"]) == 1
    # As the applier of another process would: nothing wakes the worker of this one.
    await b.sql("INSERT INTO p2p_replication_applying (id) VALUES (1)")
    await b.sql("INSERT INTO testapp_shelf (id, name) VALUES (%s, 's')", shelf.pk.hex)
    await b.sql("DELETE FROM p2p_replication_applying")
    printed, _ = await b.do(run, "parked", "--retry")
    assert printed == "The worker has tried again: 1 rows are parked no more.\nNo row is parked.\n"
    assert await b.count("testapp.Book") == 1


async def test_without_a_worker_the_command_tries_itself(live: Live) -> None:
    _, b, shelf, _ = await book_without_a_shelf(live)
    await b.stop()
    answer, _ = await on(b, "parked", "--retry")
    assert answer["retried"] == {"by": "here", "ended": 0}
    await b.create("testapp.Shelf", id=shelf.pk, name="s")
    answer, _ = await on(b, "parked", "--retry")
    assert answer == {"parked": [], "retried": {"by": "here", "ended": 1}}
    assert await b.count("testapp.Book") == 1
    await b.start("testapp.Book")
    assert b.alive


def test_every_reason_has_a_remedy() -> None:
    reasons = {parking.MISSING_PARENT, parking.REFERENCED, parking.CLOCK, parking.REFUSED, parking.UNIQUE}
    assert set(REMEDIES) == {*reasons, parking.LEAVING}


def test_a_row_whose_value_is_taken_comes_in_when_the_clash_is_over(replica: Callable[..., TestReplica]) -> None:
    """On another database than the default one."""
    a, b = replica("a"), replica("b")
    kept = Shelf.objects.using("b").create(name="same")
    time.sleep(0.003)  # Which one is older is told by the millisecond.
    Shelf.objects.using("a").create(name="same")
    b.post()
    b.pull(a, ("testapp.Shelf",))
    b.retry_parked()
    answer, _ = run_json("parked", "--database", "b")
    (row,) = answer["parked"]
    assert row["reason"] == "unique value taken"
    assert row["detail"] == f"name: testapp.Shelf {kept.pk.hex} has it, and is older"
    assert "the same value" in row["remedy"]
    Shelf.objects.using("b").filter(pk=kept.pk).update(name="other")
    printed, _ = run("parked", "--database", "b", "--retry")
    assert "1 rows are parked no more" in printed
    assert Shelf.objects.using("b").count() == 2


@pytest.mark.django_db
def test_a_model_that_does_not_replicate_is_named() -> None:
    assert run("parked", "auth.User")[1].startswith("auth.User: no model that replicates. There is: office.Duty")
