"""What commands say of pools with a filter."""

from __future__ import annotations

from collections.abc import Callable

from tests.live_replicas import TOPIC, LiveReplica, linked, until
from tests.management.commands import on, run
from tests.testapp.models import Note

Live = Callable[..., LiveReplica]
NOTE = "testapp.Note"


async def pair(live: Live) -> tuple[LiveReplica, LiveReplica]:
    a, b = live("a"), live("b")
    for replica in (a, b):
        await replica.start(NOTE, where={"stars__gte": 3})
    await linked(a, b)
    return a, b


async def test_verify_compares_the_rows_in_the_filter(live: Live) -> None:
    a, b = await pair(live)
    note = await a.create(title="moves", stars=4)
    await a.create(title="in", stars=4)
    await a.create(title="out", stars=1)
    await b.create(title="other", stars=1)
    await until(lambda: b.count(stars=4), "rows arrive")
    await b.do(Note.objects.filter(pk=note.pk).update, stars=1)
    await until(lambda: equal_by_verify(a), "equal")
    await until(lambda: equal_by_verify(b), "equal")
    await b.sql("INSERT INTO p2p_replication_applying (id) VALUES (1)")
    await b.sql("UPDATE testapp_note SET title = 'x' WHERE title = 'in'")
    await b.sql("DELETE FROM p2p_replication_applying")
    assert not await equal_by_verify(a)


async def equal_by_verify(replica: LiveReplica) -> bool:
    answer, _ = await on(replica, "verify")
    (pool,) = answer["pools"]
    return [model["outcome"] for model in pool["models"]] == ["equal"]


async def test_explain_says_why_a_row_is_not_in_a_pool(live: Live) -> None:
    a, b = await pair(live)
    inside, outside = await a.create(title="in", stars=4), await a.create(title="out", stars=1)
    await until(lambda: b.count(title="in"), "the row arrives")

    async def peers_are_known() -> bool:
        history, _ = await on(a, "explain", NOTE, str(outside.pk))
        return [peer["has"] for peer in history["peers"]] == [False]

    await until(peers_are_known, "posted, and the peer's progress is written")
    history, error = await on(a, "explain", NOTE, str(outside.pk))
    assert error == ""
    (state,) = history["filters"]
    assert (state["pool"], state["filter"], state["inside"], state["shared"]) == (TOPIC, "stars__gte=3", False, False)
    assert state["why"].startswith("stars is 1, and the filter asks for stars__gte=3; it was never in it")
    (peer,) = history["peers"]
    assert (peer["has"], peer["why"]) == (False, "the row is outside of the pool's filter")
    printed, _ = await a.do(run, "explain", NOTE, str(inside.pk))
    assert "stars__gte=3: in it" in printed
    await b.do(Note.objects.filter(pk=inside.pk).update, stars=2)
    await until(lambda: gone(a, "in"), "it leaves")
    printed, _ = await a.do(run, "explain", NOTE, str(inside.pk))
    assert "outside the pool's filter" in printed and "it is not there" in printed
    assert "peers were told that it has left" in " ".join(printed.split())


async def gone(replica: LiveReplica, title: str) -> bool:
    return await replica.count(title=title) == 0


async def test_status_counts_what_peers_wait_for(live: Live) -> None:
    a, b = await pair(live)
    note = await a.create(title="in", stars=4)
    await until(lambda: b.count(title="in"), "the row arrives")
    await b.do(Note.objects.filter(pk=note.pk).update, stars=2)
    await until(lambda: gone(a, "in"), "it leaves")

    async def all_acknowledged() -> bool:
        status, _ = await on(a, "status")
        return [peer["unacknowledged"] for peer in status["pools"][0]["peers"]] == [0]

    await until(all_acknowledged, "what was written is acknowledged")
    await b.stop()
    await a.create(title="waits", stars=3)
    await a.create(title="private", stars=1)

    async def as_it_is() -> bool:
        status, _ = await on(a, "status")
        (pool,) = status["pools"]
        (model,) = [model for model in status["models"] if model["model"] == NOTE]
        return (
            pool["filters"] == {NOTE: "stars__gte=3"}
            and [peer["unacknowledged"] for peer in pool["peers"]] == [1]
            and (model["hidden"], model["waiting"]) == (1, 0)
        )

    await until(as_it_is, "status shows it")
    printed, _ = await a.do(run, "status")
    assert "filter: testapp.Note: stars__gte=3" in printed
