"""Replicas that run: supervisor, pool, replicators, session and storage together, over memory links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from p2p_replication.models import PeerState
from p2p_replication.transport.memory import MemoryHub
from tests.live_replicas import LiveReplica, equal, linked, until
from tests.testapp.models import Note

Live = Callable[..., LiveReplica]


@pytest.mark.on("sqlite", "mixed")
async def test_two_replicas_sync_both_ways(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.do(Note.objects.bulk_create, [Note(title=f"a{i}") for i in range(300)])
    await b.do(Note.objects.bulk_create, [Note(title=f"b{i}") for i in range(200)])
    await a.start()
    await b.start()
    await equal(a, b)
    assert await a.count() == 500


@pytest.mark.on("sqlite", "mixed")
async def test_a_live_write_crosses_by_push_and_is_sent_once(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    note = await a.create(title="live")
    await until(lambda: b.count(title="live"), "the row arrives")
    await b.do(Note.objects.filter(pk=note.pk).update, stars=4)
    await until(lambda: a.count(stars=4), "the edit arrives")
    await until(lambda: a.traffic()[0] and b.traffic()[0], "both have counted it")
    for replica in (a, b):
        assert replica.links[0].session.links["testapp.Note"].round == 1, "only the pull of the beginning"
    assert a.traffic() == (1, 1)
    assert b.traffic() == (1, 1)


@pytest.mark.on("sqlite", "mixed")
async def test_a_third_relays_between_two_that_have_no_path(live: Live, hub: MemoryHub) -> None:
    a, b, c = live("a"), live("b"), live("c")
    await c.start()
    c_id = c.replica_id
    await c.stop()
    await a.start()
    await b.start()
    hub.partition([a.replica_id], [c_id])
    await c.start()
    await until(lambda: len(b.links) == 2, "b is linked with both")
    await a.create(title="from a")
    await c.create(title="from c")
    await until(lambda: c.count(title="from a"), "a's row reaches c through b")
    await until(lambda: a.count(title="from c"), "c's row reaches a through b")
    await equal(a, b, c)
    assert len(a.links) == len(c.links) == 1


@pytest.mark.on("sqlite", "mixed")
@pytest.mark.alone
async def test_a_change_crosses_to_each_of_four_replicas_about_once(live: Live) -> None:
    """Who hears of a change by others waits 0.15 s for the origin's own push before it asks: on a machine that is too
    busy for that, changes cross twice.
    """
    replicas = [live(name) for name in "abcd"]
    for replica in replicas:
        await replica.start()
    await linked(*replicas)
    for i in range(20):
        await replicas[i % 4].create(title=f"n{i}")
    await equal(*replicas)
    assert await replicas[0].count() == 20
    received = sum(replica.traffic()[0] for replica in replicas)
    assert received <= 1.2 * 20 * 3, f"{received} rows received for 60 needed"


@pytest.mark.on("sqlite", "mixed")
async def test_cut_and_heal_sends_nothing_again(live: Live, hub: MemoryHub) -> None:
    a, b = live("a"), live("b")
    await a.do(Note.objects.bulk_create, [Note(title=f"n{i}") for i in range(400)])
    await a.start()
    await b.start()
    await equal(a, b)
    for i in range(3):
        old = a.links[0]
        hub.cut(a.replica_id, b.replica_id)
        await until(lambda old=old: not old.is_open, "the cut is seen")
        await a.create(title=f"while cut {i}")
        await linked(a, b)
        await equal(a, b)
        assert a.traffic()[1] <= 1, "a row that b had was sent again"


@pytest.mark.on("sqlite", "mixed")
async def test_silence_ends_a_link_and_healing_brings_everything(live: Live, hub: MemoryHub, settings: Any) -> None:
    settings.P2P_REPLICATION = {**settings.P2P_REPLICATION, "HEARTBEAT_INTERVAL": 0.3, "PEER_TIMEOUT": 1.0}
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    hub.partition([a.replica_id], [b.replica_id])
    await a.create(title="a alone")
    await b.create(title="b alone")
    await until(lambda: not a.links and not b.links, "both notice the silence")
    hub.heal()
    await equal(a, b)
    assert await a.count() == 2


@pytest.mark.on("sqlite", "mixed")
async def test_children_that_came_before_their_parent_are_retried_when_it_comes(live: Live) -> None:
    a, b = live("a"), live("b")
    shelf = await a.create("testapp.Shelf", name="s")
    await a.create("testapp.Book", title="t", shelf=shelf)
    await a.start("testapp.Book")
    await b.start("testapp.Book")
    await until(b.parked, "the book waits for its shelf")
    assert await b.count("testapp.Book") == 0
    await a.stop()
    await b.stop()
    await a.start()
    await b.start()
    await until(lambda: b.count("testapp.Book"), "the book is there")
    assert await b.parked() == 0


@pytest.mark.on("sqlite", "mixed")
async def test_rows_of_peers_tell_what_is_true(live: Live) -> None:
    """Connected and counted while the peer is there; counted to the last row, and gone, when it has left."""
    a, b = live("a"), live("b")
    await a.do(Note.objects.bulk_create, [Note(title=f"n{i}") for i in range(50)])
    await a.start()
    await b.start()
    a_id, b_id = a.replica_id, b.replica_id

    async def connected() -> bool:
        peers = await a.peers()
        return b_id in peers and peers[b_id].is_connected and peers[b_id].in_sync

    await equal(a, b)
    await until(connected, "b is shown as connected and in sync")
    await a.create(title="the last")
    await until(lambda: b.count(title="the last"), "the last row")
    await b.stop()

    async def gone() -> bool:
        return (await a.peers())[b_id].state == PeerState.GONE

    await until(gone, "b is shown as gone")
    assert (await a.peers())[b_id].rows_out == 51
    assert (await b.peers())[a_id].rows_in == 51
