"""Faults of RxDB's P2P replication."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import Callable
from typing import Any

from p2p_replication.pool.replicator import Replicator
from p2p_replication.transport.memory import MemoryHub
from tests.live_replicas import LiveReplica, equal, linked, until
from tests.storage.conftest import meet
from tests.testapp.models import Note, Shelf

Live = Callable[..., LiveReplica]
LABELS = ("testapp.Note", "testapp.Shelf")


async def test_creating_and_deleting_one_row_on_both_sides_comes_to_rest(live: Live) -> None:
    """rxdb#7190: two peers kept sending each other the create and the delete for ever."""
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    keys = [uuid.uuid4() for _ in range(3)]

    async def toggle(replica: LiveReplica) -> None:
        for i in range(12):
            for key in keys:
                await replica.do(Note.objects.update_or_create, id=key, defaults={"title": f"{replica.name}{i}"})
            await replica.do(Note.objects.filter(pk__in=keys).delete)

    await asyncio.gather(toggle(a), toggle(b))
    await equal(a, b)

    async def vectors() -> Any:
        return [await one.sql("SELECT own_vector FROM p2p_replication_stream ORDER BY id") for one in (a, b)]

    async def at_rest() -> bool:
        before = await vectors(), a.traffic(), b.traffic()
        await asyncio.sleep(1.0)
        return (await vectors(), a.traffic(), b.traffic()) == before

    await until(at_rest, "no row travels and none is written any more", 10)
    await equal(a, b)


async def test_a_peer_that_is_gone_in_the_middle_of_a_pull_holds_up_nobody(
    live: Live, hub: MemoryHub, settings: Any
) -> None:
    """rxdb#5342: the replication waited for ever for a peer that had left without a word."""
    settings.P2P_REPLICATION = {**settings.P2P_REPLICATION, "HEARTBEAT_INTERVAL": 0.3, "PEER_TIMEOUT": 1.0}
    a, b, c = live("a"), live("b"), live("c")
    await b.do(Note.objects.bulk_create, [Note(title=f"n{i}") for i in range(1500)])
    await b.start()
    await c.start()
    await equal(b, c)
    await a.start(pull={"batch_size": 50})

    def pulled_from() -> str:
        pulling = [one for one in a.links if any(link.pulling for link in one.session.links.values())]
        return pulling[0].peer_id if pulling else ""

    while not (gone := pulled_from()):  # noqa: ASYNC110 - it must be caught in the middle
        await asyncio.sleep(0)
    hub.partition([a.replica_id], [gone])
    assert await a.count() < 1500
    await until(lambda: a.count(title="n1499"), "the rest comes from the other peer")
    await until(lambda: not [one for one in a.links if one.peer_id == gone], "the gone peer is given up")
    await equal(a, b, c)


async def test_several_models_share_one_connection_per_peer(live: Live) -> None:
    """rxdb#5925: each collection opened connections of its own to each peer."""
    a, b, c = live("a"), live("b"), live("c")
    for replica in (a, b, c):
        await replica.start()
    await linked(a, b, c)
    assert len(a.pool.parts) == 3
    for replica in (a, b, c):
        assert len(replica.pool.replicators) == 2
        assert all(len(link.session.links) == 3 for link in replica.links)


async def test_lost_connections_leave_nothing_behind(live: Live, hub: MemoryHub) -> None:
    """RxDB 17: each drop of the signaling socket or of a connection left a link and its timers behind."""
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    tasks = len(asyncio.all_tasks())
    for _ in range(10):
        old = a.links[0]
        hub.drop_signaling(a.replica_id)
        hub.cut(a.replica_id, b.replica_id)
        await until(lambda old=old: not old.is_open, "the cut is seen")
        await linked(a, b)
    del old
    await until(lambda: len(asyncio.all_tasks()) <= tasks, "no task is left over")

    def living() -> int:
        gc.collect()
        found = [one for one in gc.get_objects() if isinstance(one, Replicator)]
        return sum(one.pool in (a.pool, b.pool) for one in found)

    # What a session has moved is reported once a second; until then it is kept.
    await until(lambda: living() == 2, "of all sessions the two ends of the last one are left")


def test_rows_of_two_models_with_one_key_stay_apart(replica: Callable[..., Any]) -> None:
    """RxDB: two collections on one topic took each other's documents."""
    a, b = replica("a"), replica("b")
    key = uuid.uuid4()
    Note.objects.using("a").create(id=key, title="a note")
    Shelf.objects.using("b").create(id=key, name="a shelf")
    meet(a, b, labels=LABELS)
    for alias in ("a", "b"):
        assert Note.objects.using(alias).get(pk=key).title == "a note"
        assert Shelf.objects.using(alias).get(pk=key).name == "a shelf"
    Note.objects.using("b").filter(pk=key).delete()
    meet(a, b, labels=LABELS)
    assert not Note.objects.using("a").exists()
    assert Shelf.objects.using("a").get(pk=key).name == "a shelf"
