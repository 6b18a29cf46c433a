"""Rows that were written in one transaction arrive in one transaction, whatever models they are of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction

from p2p_replication.storage.replica_database import ReplicaDatabase
from tests.live_replicas import LiveReplica, equal, linked
from tests.testapp.models import Book, Note, Shelf

Live = Callable[..., LiveReplica]

pytestmark = pytest.mark.on("mixed")

#: What one committed state shows of each transaction, by its number: shelves, books and notes with that number.
SEEN = (
    "SELECT (SELECT COUNT(*) FROM testapp_shelf WHERE name = %s), "
    "(SELECT COUNT(*) FROM testapp_book WHERE title = %s), (SELECT COUNT(*) FROM testapp_note WHERE title = %s)"
)


class Watch:
    """Looks at every state that a replica's worker commits.

    Attributes:
        torn: what was seen of a transaction that was there in part.
        commits: how many states were looked at.
    """

    def __init__(self, alias: str = "default") -> None:
        self.alias = alias
        self.numbers: set[str] = set()
        self.whole: set[tuple[int, int, int]] = {(0, 0, 0), (1, 3, 1)}
        self.torn: list[tuple[str, tuple[int, int, int]]] = []
        self.commits = 0

    def look(self) -> None:
        self.commits += 1
        with connections[self.alias].cursor() as cursor:
            for number in sorted(self.numbers):
                cursor.execute(SEEN, [number] * 3)
                found = tuple(cursor.fetchone())
                if found not in self.whole:
                    self.torn.append((number, found))  # type: ignore[arg-type]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[LiveReplica], Watch]:
    """``watch(replica)``: look at what its worker commits from now on."""
    watched: dict[ReplicaDatabase, Watch] = {}
    writing = ReplicaDatabase.writing

    @contextmanager
    def and_look(database: ReplicaDatabase) -> Iterator[None]:
        with writing(database):
            yield
        if database in watched and not connections[database.alias].in_atomic_block:
            watched[database].look()

    monkeypatch.setattr(ReplicaDatabase, "writing", and_look)

    def begin(replica: LiveReplica) -> Watch:
        assert replica.supervisor is not None
        return watched.setdefault(replica.supervisor.database, Watch())

    return begin


def write(number: str) -> None:
    """One transaction: a note, a shelf, and three books on it."""
    with transaction.atomic():
        Note.objects.create(title=number)
        shelf = Shelf.objects.create(name=number)
        Book.objects.bulk_create([Book(title=number, shelf=shelf) for _ in range(3)])


async def test_transactions_that_are_pushed_arrive_as_a_whole(live: Live, watch: Callable[..., Watch]) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    await equal(a, b)
    seen = watch(b)
    for i in range(40):
        seen.numbers.add(f"t{i}")
        await a.do(write, f"t{i}")
        await asyncio.sleep(0.005 * (i % 4))
    await equal(a, b)
    assert seen.commits > 3
    assert seen.torn == []


async def test_transactions_arrive_as_a_whole_at_who_was_away(live: Live, watch: Callable[..., Watch]) -> None:
    a, b = live("a"), live("b")
    await a.start()
    seen = None
    for i in range(60):
        await a.do(write, f"t{i}")
    await b.start()
    seen = watch(b)
    seen.numbers |= {f"t{i}" for i in range(60)}
    await equal(a, b)
    assert seen.torn == []


async def test_a_row_and_those_that_go_with_it_go_at_once(live: Live, watch: Callable[..., Watch]) -> None:
    """Whose delete reaches a replica before those of the rows that refer to it waits for them."""
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    for i in range(10):
        await a.do(write, f"t{i}")
    await equal(a, b)
    seen = watch(b)
    seen.numbers |= {f"t{i}" for i in range(10)}

    def delete(number: str) -> None:
        with transaction.atomic():
            Note.objects.filter(title=number).delete()
            Shelf.objects.get(name=number).delete()

    for i in range(10):
        await a.do(delete, f"t{i}")
    await equal(a, b)
    assert seen.commits > 0
    assert seen.torn == []
    assert await b.parked() == 0


async def test_a_transaction_over_a_row_that_a_peer_edits_is_still_pushed_as_a_whole(
    live: Live, watch: Callable[..., Watch]
) -> None:
    """What comes for one of its rows lets that one be posted before the others."""
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    await a.do(write, "both")
    await equal(a, b)
    seen = watch(a)
    seen.numbers |= {f"t{i}" for i in range(30)} | {"both"}

    def write_over(number: str) -> None:
        with transaction.atomic():
            Note.objects.filter(title="both").update(stars=len(number))
            write(number)

    def edit(i: int) -> Any:
        return Note.objects.filter(title="both").update(body=f"edit {i}")

    for i in range(30):
        await asyncio.gather(b.do(write_over, f"t{i}"), a.do(edit, i))
    await equal(a, b)
    assert seen.torn == []


async def test_many_rows_of_one_model_arrive_as_a_whole(live: Live, watch: Callable[..., Watch]) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    await equal(a, b)
    seen = watch(b)
    seen.numbers, seen.whole = {"many"}, {(0, 0, 0), (0, 0, 240)}
    assert b.supervisor is not None
    b.supervisor.database.budget.measured(10, 1.0)  # A slow machine: slices would be short.
    await a.do(Note.objects.bulk_create, [Note(title="many") for _ in range(240)])
    await equal(a, b)
    assert seen.torn == []


async def test_a_transaction_that_is_too_long_arrives_all_the_same(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)

    def write_much() -> None:
        with transaction.atomic():
            shelf = Shelf.objects.create(name="long")
            Book.objects.bulk_create([Book(title="t", shelf=shelf) for _ in range(1_500)])
            Note.objects.bulk_create([Note(title="t") for _ in range(1_500)])

    await a.do(write_much)
    await equal(a, b)
    assert await b.count() == 1_500
