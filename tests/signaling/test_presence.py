"""Who is in a room, also after crashes, lost messages and a busy database."""

from __future__ import annotations

import asyncio
import datetime
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import OperationalError
from django.utils import timezone

from p2p_replication.models import RoomMember
from p2p_replication.signaling import presence
from p2p_replication.signaling.local_sockets import local_sockets
from p2p_replication.signaling.server_process import is_dead, new_server_name
from tests.signaling.conftest import Client, Connect


@pytest.fixture
def quick_checks(settings: Any) -> None:
    limits = {"check_interval": 0.1, "beat_interval": 0.1}
    settings.P2P_REPLICATION = settings.P2P_REPLICATION | {"SIGNALING_LIMITS": limits}


async def in_database(work: Callable[[], Any]) -> Any:
    return await database_sync_to_async(work)()


async def add_ghost(like: Client, **changes: Any) -> None:
    """A row beside this client's own, as another server process would have left it."""

    def add() -> None:
        row = RoomMember.objects.get(peer_id=like.peer_id)
        row.pk, row.peer_id = None, "ghostghostgh"
        for name, value in changes.items():
            setattr(row, name, value)
        row.save()

    await in_database(add)


def dead_server() -> str:
    """The name that a server process had which was killed."""
    code = "from p2p_replication.signaling.server_process import new_server_name as n; print(n())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


async def test_a_dropped_socket_leaves_no_ghost_member(connect: Connect) -> None:
    first, second = await connect(), await connect()
    await first.join("team")
    await second.join("team")
    # No close handshake, no disconnect event: the server's task is simply torn down.
    second.broken_on_purpose = True
    second.communicator.future.cancel()
    await first.until_members(first, second)
    await first.until_members(first)
    assert await in_database(RoomMember.objects.count) == 1


async def test_a_failing_channel_layer_leaves_no_ghost_member(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = get_channel_layer()
    receive, broken = layer.receive, set()

    async def receive_unless_broken(channel: str) -> Any:
        if channel in broken:
            raise ConnectionError("Redis is gone")
        return await receive(channel)

    monkeypatch.setattr(layer, "receive", receive_unless_broken)
    first, second = await connect(), await connect()
    await first.join("team")
    await second.join("team")
    await first.until_members(first, second)
    second.broken_on_purpose = True
    broken.add(await in_database(lambda: RoomMember.objects.get(peer_id=second.peer_id).channel_name))
    await first.signal("team", second.peer_id, {})  # wakes the second socket, whose next receive fails
    await first.until_members(first)
    with pytest.raises(ConnectionError):
        await second.communicator.wait()


async def test_the_last_one_out_leaves_nothing_behind(connect: Connect) -> None:
    client = await connect()
    await client.join("one")
    await client.join("two")
    assert await in_database(RoomMember.objects.count) == 2
    await client.disconnect()
    assert await in_database(RoomMember.objects.count) == 0
    assert get_channel_layer().groups == {}


async def test_a_restarted_server_sweeps_the_rows_of_its_killed_predecessor_at_once(connect: Connect) -> None:
    first = await connect()
    await first.join("team")
    await add_ghost(first, server=await asyncio.to_thread(dead_server))
    second = await connect()
    assert await second.join("team") == [first.peer_id, second.peer_id]
    await first.disconnect()
    await second.disconnect()
    # Now nobody is here and the ghost's row still lies there: the next first socket sweeps it.
    assert await in_database(RoomMember.objects.count) == 1
    await connect()
    assert await in_database(RoomMember.objects.count) == 0


@pytest.mark.usefixtures("quick_checks")
async def test_members_of_a_silent_server_are_swept(connect: Connect) -> None:
    first = await connect()
    await first.join("team")
    await add_ghost(first, server="elsewhere.1.1.1", last_seen=ago(91))
    await until(lambda: RoomMember.objects.count() == 1)


def ago(seconds: float) -> datetime.datetime:
    return timezone.now() - datetime.timedelta(seconds=seconds)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not await in_database(condition):  # noqa: ASYNC110  (rows have no event to wait for)
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("quick_checks")
async def test_the_server_beats_for_its_sockets(connect: Connect) -> None:
    client = await connect()
    await client.join("team")
    before = ago(60)
    await in_database(lambda: RoomMember.objects.update(last_seen=before))
    await until(lambda: RoomMember.objects.get().last_seen > before)


@pytest.mark.usefixtures("quick_checks")
async def test_rows_lost_by_a_flush_come_back(connect: Connect) -> None:
    first, second = await connect(), await connect()
    await first.join("team")
    await second.join("team")
    await in_database(lambda: RoomMember.objects.all().delete())
    await until(lambda: RoomMember.objects.count() == 2)
    await first.is_alive(second, "team")


@pytest.mark.usefixtures("quick_checks")
async def test_a_lost_announcement_is_made_up_for(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await connect(), await connect()
    await first.join("team")

    async def lost(group: str, message: dict[str, Any]) -> None:
        pass

    monkeypatch.setattr(get_channel_layer(), "group_send", lost)
    await second.join("team")
    await first.until_members(first, second)


async def test_a_signal_to_a_member_not_yet_told_of_is_delivered(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await connect(), await connect()

    async def lost(group: str, message: dict[str, Any]) -> None:
        pass

    monkeypatch.setattr(get_channel_layer(), "group_send", lost)
    await first.join("team")
    await second.join("team")
    await first.signal("team", second.peer_id, "early")
    assert (await second.receive("signal"))["data"] == "early"


@pytest.mark.django_db(transaction=True)
def test_members_of_a_dead_server_are_listed_no_more_even_before_they_are_swept() -> None:
    alive = presence.Member("room", "alivealiveal", "channel", new_server_name())
    presence.join(alive, peers_per_room=9, stale_after=90)
    presence.join(presence.Member("room", "deaddeaddead", "channel", dead_server()), peers_per_room=9, stale_after=90)
    assert presence.members(["room", "empty"], stale_after=90) == {"room": [alive], "empty": []}
    assert presence.sweep(stale_after=90) == {"room"}
    assert presence.sweep(stale_after=90) == set()
    assert RoomMember.objects.get().peer_id == "alivealiveal"


async def test_a_signal_to_a_gone_channel_is_told_to_the_sender_and_its_row_removed(connect: Connect) -> None:
    first = await connect()
    await first.join("team")
    await add_ghost(first, channel_name="specific.inmemory!gone")
    await first.signal("team", "ghostghostgh", {"type": "offer"})
    error = await first.receive("error")
    assert (error["code"], error["room"]) == (4404, "team")
    assert "ghostghostgh" in error["message"]
    await first.until_members(first)
    assert await in_database(RoomMember.objects.count) == 1


async def test_a_locked_database_delays_a_join_but_kills_no_socket(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await connect(), await connect()
    await first.join("team")
    real_write, failures = presence._write, []

    def locked(members: Any) -> None:
        failures.append(1)
        if len(failures) < 2:
            raise OperationalError("database is locked")
        real_write(members)

    monkeypatch.setattr(presence, "_write", locked)
    await second.send({"type": "join", "room": "team"})
    await second.until_members(first, second)
    await first.until_members(first, second)
    await first.is_alive(second, "team")


async def test_a_locked_database_keeps_no_leaver(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await connect(), await connect()
    await first.join("team")
    await second.join("team")
    await first.until_members(first, second)

    def locked(*arguments: Any) -> None:
        raise OperationalError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr(presence, "leave", locked)
        await second.disconnect()
    await first.until_members(first)
    assert await in_database(RoomMember.objects.count) == 1


@pytest.mark.usefixtures("quick_checks")
async def test_several_servers_on_the_in_memory_layer_are_told_of_the_remedy(connect: Connect) -> None:
    """Signals to the other process would vanish: it is said, and its members are not shown as reachable."""
    first = await connect()
    await first.join("team")
    await add_ghost(first, server="elsewhere.1.1.1", last_seen=timezone.now())
    error = await first.receive("error")
    assert (error["code"], error["room"]) == (4503, "team")
    assert "channels_redis" in error["message"]
    second = await connect()
    await second.send({"type": "join", "room": "team"})
    assert (await second.receive())["otherPeerIds"] == [first.peer_id, second.peer_id]
    assert (await second.receive())["code"] == 4503
    await second.signal("team", "ghostghostgh", {})
    assert (await second.receive("error"))["code"] == 4404
    await first.is_alive(second, "team")


async def test_many_joins_at_once_end_in_one_view(connect: Connect) -> None:
    clients = [await connect() for _ in range(12)]
    await asyncio.gather(*(client.send({"type": "join", "room": "team"}) for client in clients))
    for client in clients:
        await client.until_members(*clients)


async def test_the_same_server_is_used_for_all_sockets_of_a_process(connect: Connect) -> None:
    client = await connect()
    await client.join("team")
    assert await in_database(lambda: RoomMember.objects.get().server) == local_sockets().server


def test_only_processes_that_are_certainly_gone_count_as_dead() -> None:
    alive = new_server_name()
    assert len(alive) <= 64
    assert not is_dead(alive)
    assert is_dead(dead_server())
    host, pid, started, salt = alive.split(".")
    assert not is_dead(f"{'0' * 16}.{pid}.{started}.{salt}")  # another host
    assert is_dead(f"{host}.{pid}.{int(started) - 1}.{salt}")  # our pid, but of an earlier process
    for odd in ("", "a.b", f"{host}.x.1.1", f"{host}.-1.1.1", f"{host}.{10**30}.1.1"):
        assert not is_dead(odd)


def test_a_killed_process_that_nobody_has_reaped_yet_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    host = new_server_name().split(".")[0]
    assert not is_dead(f"{host}.{process.pid}.0.x")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(f"{host}.{process.pid}.0.x")
    process.communicate()
