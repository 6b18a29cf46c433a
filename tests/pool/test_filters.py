"""Pools with a filter, live: what crosses, what is refused, and what changes with another filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import p2p_replication
from p2p_replication.exceptions import NotInSync
from p2p_replication.models import Declaration, EntryStatus, LedgerEntry, PeerProgress, Pool
from p2p_replication.pool.part import Part
from p2p_replication.storage.subsets import EVERYTHING
from tests.live_replicas import TOPIC, LiveReplica, linked, until
from tests.testapp.models import Note

Live = Callable[..., LiveReplica]
NOTE = "testapp.Note"
STARRED = {"stars__gte": 3}

pytestmark = pytest.mark.on("mixed")


async def titles(replica: LiveReplica) -> set[str]:
    return await replica.do(lambda: set(Note.objects.values_list("title", flat=True)))


async def test_rows_enter_and_leave_while_all_are_linked(live: Live) -> None:
    a, b, c = replicas = [live(name) for name in "abc"]
    for replica in replicas:
        await replica.start(NOTE, where=STARRED)
    await linked(*replicas)
    await a.create(title="out", stars=1)
    note = await a.create(title="in", stars=3)
    for other in (b, c):
        await until(lambda other=other: other.count(title="in"), "the row arrives")
    await b.do(Note.objects.filter(pk=note.pk).update, stars=1)
    for other in (a, c):
        await until(lambda other=other: titles_are(other, {"out"} if other is a else set()), "it leaves the others")
    assert await titles(b) == {"in"}
    await b.do(Note.objects.filter(pk=note.pk).update, stars=5)
    for other in (a, c):
        await until(lambda other=other: other.count(title="in", stars=5), "it comes back")
    assert await b.count(title="out") == await c.count(title="out") == 0
    assert [await replica.errors() for replica in replicas] == [[], [], []]


async def titles_are(replica: LiveReplica, wanted: set[str]) -> bool:
    return await titles(replica) == wanted


async def test_waiting_for_sync_covers_rows_outside_of_the_filter(live: Live) -> None:
    a, b = live("a"), live("b")
    for replica in (a, b):
        await replica.start(NOTE, where=STARRED)
    await linked(a, b)

    def write_and_wait(stars: int) -> None:
        Note.objects.create(title=f"with {stars}", stars=stars)
        p2p_replication.sync_p2p(Note, TOPIC, where=STARRED).wait_in_sync(20)

    await a.do(write_and_wait, 4)
    assert await titles(b) == {"with 4"}
    await a.do(write_and_wait, 1)
    assert await titles(b) == {"with 4"}


async def test_two_filters_refuse_the_model_on_both_sides_and_others_go_on(live: Live) -> None:
    a, b = live("a"), live("b")
    for replica, where in ((a, STARRED), (b, {"stars__gte": 4})):
        await replica.do(p2p_replication.sync_p2p, Note, TOPIC, where=where)
        await replica.start("testapp.Shelf")
    await linked(a, b)
    await a.create("testapp.Shelf", name="shelf")
    await a.create(title="in", stars=5)
    await until(lambda: b.count("testapp.Shelf"), "another model goes on")

    for replica in (a, b):

        async def told(replica: LiveReplica = replica) -> bool:
            return any("testapp.Note has two filters" in error for error in await replica.errors())

        await until(told, "both sides say why")
    assert await b.count() == 0


async def test_another_filter_on_both_sides_begins_anew(live: Live) -> None:
    a, b = live("a"), live("b")
    for replica in (a, b):
        await replica.start(NOTE, where=STARRED)
    await linked(a, b)
    await a.create(title="one", stars=1)
    note = await a.create(title="four", stars=4)
    await until(lambda: b.count(title="four"), "a row arrives")

    def change(seconds: float) -> str:
        handle = p2p_replication.sync_p2p(Note, TOPIC, where={"stars__lt": 3})
        try:
            handle.wait_in_sync(seconds)
        except NotInSync as error:
            return str(error)
        return ""

    assert await a.do(change, 1) != "", "the other side has not changed yet"
    assert await b.count(title="one") == 0
    await b.do(change, 20)
    await until(lambda: b.count(title="one"), "the row of the new subset arrives")
    assert await a.do(change, 20) == ""
    # What is in the old one only stays where it is, and is nobody's business any more.
    await a.do(Note.objects.filter(pk=note.pk).update, stars=5)
    assert await a.do(change, 20) == ""
    assert await b.count(title="four", stars=4) == 1
    for replica in (a, b):
        assert not any("failed" in error for error in await replica.errors())


async def test_rows_outside_of_the_filter_are_counted_as_errors(live: Live, monkeypatch: Any) -> None:
    """A peer that sends what it should not."""
    a, b = live("a"), live("b")
    await b.start(NOTE, where=STARRED)
    offer = Part.offer

    def same_offer(part: Part) -> Any:
        made = offer(part)
        return made if made.filter else type(made)(made.label, made.fields, made.merge, '[["stars","gte","integer",3]]')

    monkeypatch.setattr(Part, "offer", same_offer)
    for i in range(3):
        await a.create(title=f"out {i}", stars=i)
    await a.start(NOTE)
    assert a.pool.parts[NOTE].subset == EVERYTHING
    await a.create(title="in", stars=3)
    await until(lambda: b.count(title="in"), "what is in the filter arrives")

    def error() -> tuple[str, int] | None:
        return Pool.objects.get().errors.values_list("text", "count").first()

    async def counted() -> bool:
        return await b.do(error) is not None

    await until(counted, "refused rows are told")
    text, count = await b.do(error)
    assert "rows of testapp.Note were refused, as they are outside of the pool's filter" in text
    assert count == 3
    assert await titles(b) == {"in"}

    def complete() -> bool:
        return PeerProgress.objects.filter(complete=True).exists() and LedgerEntry.objects.count() == 1

    async def at_rest() -> bool:
        return await b.do(complete)

    await until(at_rest, "the vector goes on")
    assert not await b.do(LedgerEntry.objects.filter(status=EntryStatus.PARKED).exists)


async def test_a_filter_by_a_field_that_is_gone_stops_the_pool_with_an_error(live: Live) -> None:
    """A migration has taken the field, and the declaration was not changed."""
    a = live("a")
    await a.do(p2p_replication.sync_p2p, Note, TOPIC, where=STARRED)
    await a.do(lambda: Declaration.objects.update(where='[["colour","exact","text","red"]]', filter_digest="x"))
    await a.start(declared=False)

    async def told() -> bool:
        return any("filtered by colour, which its table does not have" in error for error in await a.errors())

    await until(told, "the pool says why it does not run")
    assert a.alive and a.supervisor is not None and not a.supervisor.running
    await a.do(p2p_replication.sync_p2p, Note, TOPIC, where=STARRED)
    await until(lambda: a.supervisor is not None and a.supervisor.running, "it starts once that is put right")
