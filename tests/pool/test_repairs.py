"""Unique clashes and deletes that meet new children, between running replicas."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from p2p_replication.storage.repairs import repair
from p2p_replication.storage.replica_database import ReplicaDatabase
from tests.live_replicas import LiveReplica, equal, linked, until
from tests.testapp.models import Book, Shelf

Live = Callable[..., LiveReplica]


async def apart(live: Live, *, names: str = "abc") -> tuple[list[LiveReplica], Shelf]:
    """Replicas with a shelf, whose workers are stopped."""
    replicas = [live(name) for name in names]
    for replica in replicas:
        await replica.start()
    await linked(*replicas)
    shelf = await replicas[0].create("testapp.Shelf", name="old")
    await equal(*replicas)
    for replica in replicas:
        await replica.stop()
    return replicas, shelf


@pytest.mark.on("sqlite", "mixed")
async def test_the_older_of_two_rows_keeps_the_value_everywhere(live: Live) -> None:
    a, b, c = (live(name) for name in "abc")
    older = await a.create("testapp.Shelf", name="same")
    younger = await b.create("testapp.Shelf", name="same")
    await b.do(lambda: Book.objects.create(shelf=younger, title="on the younger one"))
    for replica in (a, b, c):
        await replica.start()

    async def decided() -> bool:
        return all([await r.parked() == 2 and await r.count("testapp.Shelf", pk=older.pk) == 1 for r in (a, b, c)])

    await until(decided, "the younger shelf and its book wait on all")
    await equal(a, b, c)
    await c.do(lambda: Shelf.objects.filter(pk=older.pk).update(name="another"))

    async def back() -> bool:
        return all([await r.count("testapp.Book", shelf_id=younger.pk) == 1 for r in (a, b, c)])

    await until(back, "they come back")
    await equal(a, b, c)
    assert [await r.parked() for r in (a, b, c)] == [0, 0, 0]


@pytest.mark.on("sqlite", "mixed")
async def test_a_delete_that_meets_a_new_child_takes_it_along(live: Live) -> None:
    (a, b, c), shelf = await apart(live)
    await a.do(lambda: Shelf.objects.all().delete())
    await b.do(lambda: Book.objects.create(shelf_id=shelf.pk, title="new"))
    for replica in (a, b, c):
        await replica.start()

    async def mended() -> bool:
        return all([
            not await r.parked() and not await r.count("testapp.Shelf") and not await r.count("testapp.Book")
            for r in (a, b, c)
        ])  # fmt: skip

    await until(mended, "the book goes with its shelf")
    await until(lambda: not any(r.pool.repairs.is_waiting for r in (a, b, c)), "all repairs are made")

    def pulls() -> int:
        """Of the models that were repaired: a note may be pulled from who has it already."""
        sessions = [link.session for r in (a, b, c) for link in r.links]
        return sum(session.links[label].round for session in sessions for label in ("testapp.Shelf", "testapp.Book"))

    before = pulls()
    await a.create("testapp.Note", title="another")
    await equal(a, b, c)
    assert pulls() == before, "nobody is asked again once nothing is left to repair"


@pytest.mark.on("sqlite")
async def test_a_repair_waits_until_every_peer_was_asked_for_everything(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was deleted together arrives one model after another: only who has asked knows that nothing more comes."""
    (a, b), shelf = await apart(live, names="ab")
    await a.do(lambda: Shelf.objects.all().delete())
    await b.do(lambda: Book.objects.create(shelf_id=shelf.pk, title="new"))
    pulls: list[int] = []

    def watched(database: ReplicaDatabase, labels: Collection[str]) -> int:
        one = next(r for r in (a, b) if r.supervisor is not None and r.supervisor.thread.database is database)
        pulls.extend(link.round for session in one.links for link in session.session.links.values())
        return repair(database, labels)

    monkeypatch.setattr("p2p_replication.pool.repairs.repair", watched)
    await a.start()
    await b.start()

    async def mended() -> bool:
        return not any([await r.parked() or await r.count("testapp.Book") for r in (a, b)])

    await until(mended, "the book goes with its shelf")
    assert pulls and min(pulls) > 1, "once at the beginning, and once more for the repair"


@pytest.mark.on("sqlite")
async def test_what_was_deleted_together_is_no_repair(live: Live) -> None:
    """The shelf's delete arrives before those of its books; no replica makes changes of its own of that."""
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    shelf = await a.create("testapp.Shelf", name="s")
    await a.do(lambda: Book.objects.bulk_create(Book(shelf=shelf, title=str(i)) for i in range(50)))
    await equal(a, b)
    before = a.traffic()[0]
    await a.do(lambda: Shelf.objects.all().delete())
    await equal(a, b)

    async def settled() -> bool:
        return not await b.parked()

    await until(settled, "the shelf goes when its books are gone")
    assert a.traffic()[0] == before
