"""Who is let in, and what becomes of two connections between the same two replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from p2p_replication.models import Peer, PeerState, Replica
from p2p_replication.transport import identity
from p2p_replication.transport.base import RemotePeer
from p2p_replication.transport.memory import MemoryHub
from p2p_replication.transport.memory_connection import Wire, connection_pair
from tests.live_replicas import LiveReplica, linked, until
from tests.testapp import admission

Live = Callable[..., LiveReplica]


async def connect_again(a: LiveReplica, b: LiveReplica, count: int = 1) -> None:
    """Hand over further connections, all at the same moment."""
    one, other = RemotePeer("again-a", name="a"), RemotePeer("again-b", name="b")
    for _ in range(count):
        of_a, of_b = connection_pair(one, other, Wire(lambda: 0.0), lambda: None)
        await a.pool._connected(of_a)
        await b.pool._connected(of_b)


async def settled(a: LiveReplica, b: LiveReplica) -> None:
    def one_each() -> bool:
        return len(a.pool.replicators) == len(b.pool.replicators) == 1 and len(a.links) == len(b.links) == 1

    await until(one_each, "one connection is left on both ends")
    ours, theirs = a.links[0].session, b.links[0].session
    assert ours.peer is not None
    assert theirs.peer is not None
    assert (ours.config.nonce, ours.peer.nonce) == (theirs.peer.nonce, theirs.config.nonce), "both ends kept the same"


async def test_a_second_connection_is_settled_the_same_way_on_both_ends(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    for _ in range(5):
        await linked(a, b)
        await connect_again(a, b)
        await until(lambda: all(link.is_open for link in a.pool.replicators + b.pool.replicators), "introduced")
        await settled(a, b)
    await a.create(title="after it all")
    await until(lambda: b.count(title="after it all"), "the link that was kept works")
    assert await a.errors() == []
    assert await b.errors() == []


async def test_connections_that_open_at_the_same_moment_end_as_one(live: Live, hub: MemoryHub) -> None:
    a, b = live("a"), live("b")
    await a.start()
    a_id = a.replica_id
    await b.start()
    hub.partition([a_id], [b.replica_id])
    hub.cut(a_id, b.replica_id)
    await until(lambda: not a.pool.replicators and not b.pool.replicators, "no connection is left")
    await connect_again(a, b, 4)
    await settled(a, b)


@pytest.mark.parametrize("comes_first", [True, False])
async def test_a_peer_that_is_peer_valid_refuses_gets_nothing(live: Live, comes_first: bool) -> None:
    """Both sides say why, and the peer is shown as refused."""
    a, b = live("a"), live("b")
    await a.create(title="secret")
    if not comes_first:
        await b.start()
    await a.start(is_peer_valid=admission.nobody)
    if comes_first:
        await b.start()
    b_id = b.replica_id

    async def told(replica: LiveReplica) -> bool:
        return any("is_peer_valid refuses the peer" in text for text in await replica.errors())

    await until(lambda: told(a), "a says whom it has refused")
    await until(lambda: told(b), "b is told why")
    assert not a.links
    assert await b.count() == 0
    assert (await a.peers())[b_id].state == PeerState.REFUSED


async def test_an_is_peer_valid_that_raises_refuses_and_says_so(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start(is_peer_valid=admission.broken)
    await b.start()

    async def told() -> bool:
        return any("no rules today" in text for text in await a.errors())

    await until(told, "the error of the callable is shown")
    assert not a.links
    assert a.alive


async def test_a_known_replica_with_another_key_is_refused(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    b_id = b.replica_id
    await b.stop()
    await b.do(Replica.objects.update, secret_key=identity.generate_secret_key())
    await b.create(title="from somebody who poses as b")
    await b.start()

    async def told() -> bool:
        return any("another key than before" in text for text in await a.errors())

    await until(told, "a says that the key is another one")
    assert await a.count() == 0
    assert not a.links
    await a.do(Peer.objects.filter(replica_id=b_id).delete)
    await linked(a, b)
    await until(a.count, "after the peer's row is deleted, the new key is let in")


async def test_clocks_that_differ_are_told_to_both(live: Live, monkeypatch: Any) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    assert b.supervisor is not None
    ahead = b.supervisor.database
    monkeypatch.setattr(ahead, "now_ms", lambda now=ahead.now_ms: now() + 3_600_000)
    b.links[0].close("meet again, with another clock")

    async def told(replica: LiveReplica) -> bool:
        return any("clocks of" in text and "3600 s" in text for text in await replica.errors())

    await until(lambda: told(a), "a is told")
    await until(lambda: told(b), "b is told")
    await linked(a, b)
