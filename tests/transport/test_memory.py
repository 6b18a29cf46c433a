"""The in-memory handler: the common suite, and the faults it can be given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.transport.memory import MemoryHandler, MemoryHub
from tests.transport.acceptance import DropSignaling, HandlerAcceptance, received
from tests.transport.members import Members, ended, until


@pytest.fixture
def hub() -> MemoryHub:
    return MemoryHub(retry_first=0.01, retry_max=0.1)


@pytest.fixture
async def members(hub: MemoryHub) -> AsyncIterator[Members]:
    members = Members(MemoryHandler)
    members.options = {"HUB": hub}
    yield members
    await members.stop()


@pytest.fixture
def drop_signaling(hub: MemoryHub) -> DropSignaling:
    async def drop(instance: str) -> None:
        hub.drop_signaling(instance)

    return drop


class TestMemoryHandler(HandlerAcceptance):
    pass


async def test_without_options_members_of_the_running_loop_meet() -> None:
    members = Members(MemoryHandler)
    await members.pair()
    await members.stop()


async def test_unknown_options_are_refused() -> None:
    members = Members(MemoryHandler)
    with pytest.raises(ConfigurationError, match="LATENCY"):
        await members.start("a:1", options={"LATENCY": 1}).task


async def test_latency_delays_frames_and_keeps_their_order(members: Members, hub: MemoryHub) -> None:
    a, b = await members.pair()
    hub.latency = 0.1
    await a.send(b"slow")
    hub.latency = 0.0
    await a.send(b"fast")
    arriving = asyncio.create_task(received(b, 2))
    await asyncio.sleep(0.02)
    assert not arriving.done()
    assert await arriving == [b"slow", b"fast"]


async def test_a_cut_is_seen_by_both_and_mended(members: Members, hub: MemoryHub) -> None:
    a, b = members.start("a:1"), members.start("b:1")
    ends = await a.connection_to("b:1"), await b.connection_to("a:1")
    hub.cut("a", "b:1")
    assert not ends[0].is_open
    assert not ends[1].is_open
    await a.connection_to("b:1", beyond=ends[0])


async def test_a_partition_is_silent_and_frames_pass_once_it_has_healed(members: Members, hub: MemoryHub) -> None:
    a, b = await members.pair()
    hub.partition(["a"], ["b"])
    await a.send(b"held back")
    arriving = asyncio.create_task(received(b, 1))
    await asyncio.sleep(0.05)
    assert not arriving.done()
    assert a.is_open
    assert b.is_open
    hub.heal()
    assert await arriving == [b"held back"]


async def test_no_connection_opens_across_a_partition(members: Members, hub: MemoryHub) -> None:
    hub.partition(["a"], ["b", "c"])
    a, b, c = (members.start(f"{name}:1") for name in "abc")
    await b.connection_to("c:1")
    await c.connection_to("b:1")
    assert a.connections == []
    hub.heal()
    await a.connection_to("b:1")
    await a.connection_to("c:1")


async def test_a_side_that_closes_in_a_partition_leaves_the_other_unaware_until_it_heals(
    members: Members, hub: MemoryHub
) -> None:
    a, b = members.start("a:1"), members.start("b:1")
    ends = await a.connection_to("b:1"), await b.connection_to("a:1")
    hub.partition(["a"], ["b"])
    await ends[0].close("no answer")
    assert ends[1].is_open
    hub.heal()
    await ended(ends[1])
    await a.connection_to("b:1")
    await until(lambda: len(b.open) == 1)
