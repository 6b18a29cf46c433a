"""Limits: what a client may use up, and with which code it is told."""

from __future__ import annotations

from typing import Any

import pytest

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.signaling.limits import SignalingLimits, TokenBucket, limits_from, read_limits
from tests.signaling.conftest import Connect


def limit(settings: Any, **overrides: Any) -> None:
    settings.P2P_REPLICATION = settings.P2P_REPLICATION | {"SIGNALING_LIMITS": overrides}


async def test_a_message_above_the_size_limit_closes_with_4413(connect: Connect, settings: Any) -> None:
    limit(settings, max_message_bytes=300)
    client = await connect()
    await client.send({"type": "ping", "x": "a" * 200})
    await client.send_text('{"type":"ping","x":"' + "ö" * 200 + '"}')  # below 300 characters, above 300 bytes
    assert (await client.closed())[1] == 4413


async def test_too_many_messages_close_with_4429(connect: Connect, settings: Any) -> None:
    limit(settings, messages_per_second=0.01, message_burst=3)
    client = await connect()
    for _ in range(4):
        await client.send({"type": "ping"})
    assert (await client.closed())[1] == 4429


async def test_one_room_too_many_is_refused_and_the_others_live_on(connect: Connect, settings: Any) -> None:
    limit(settings, rooms_per_socket=1)
    first, second = await connect(), await connect()
    await first.join("one")
    await second.join("one")
    await first.send({"type": "join", "room": "two"})
    error = await first.receive("error")
    assert (error["code"], error["room"]) == (4409, "two")
    await first.is_alive(second, "one")


async def test_a_full_room_refuses_and_keeps_no_trace_of_the_refused(connect: Connect, settings: Any) -> None:
    limit(settings, peers_per_room=2)
    first, second, third = await connect(), await connect(), await connect()
    await first.join("team")
    await second.join("team")
    await third.send({"type": "join", "room": "team"})
    error = await third.receive()
    assert (error["type"], error["code"], error["room"]) == ("error", 4409, "team")
    await first.until_members(first, second)
    await second.disconnect()
    await first.until_members(first)
    assert await third.join("team") == [first.peer_id, third.peer_id]


async def test_a_silent_socket_is_closed_with_4408_and_leaves_its_room(connect: Connect, settings: Any) -> None:
    first = await connect()
    await first.join("team")
    limit(settings, idle_timeout=0.3)
    silent = await connect()
    await silent.join("team")
    assert (await silent.closed())[1] == 4408
    await first.until_members(first, silent)
    await first.until_members(first)


async def test_a_ping_keeps_the_socket_open(connect: Connect, settings: Any) -> None:
    limit(settings, idle_timeout=0.5)
    client = await connect()
    for _ in range(4):
        assert await client.communicator.receive_nothing(0.2)
        await client.send({"type": "ping"})
    assert await client.join("team") == [client.peer_id]


def test_unknown_limits_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"has no max_rooms.*rooms_per_socket"):
        limits_from({"max_rooms": 3})


@pytest.mark.parametrize(
    "overrides",
    [{"rooms_per_socket": 0}, {"rooms_per_socket": 1.5}, {"idle_timeout": "120"}, {"idle_timeout": -1},
     {"peers_per_room": True}, {"idle_timeout": float("nan")}, {"stale_after": 40}, [("idle_timeout", 1)]],
)  # fmt: skip
def test_limits_that_cannot_work_are_refused(overrides: Any) -> None:
    with pytest.raises(ConfigurationError, match="SIGNALING_LIMITS"):
        limits_from(overrides)


def test_settings_override_the_defaults(settings: Any) -> None:
    assert read_limits() == SignalingLimits()
    limit(settings, idle_timeout=7)
    assert read_limits() == SignalingLimits(idle_timeout=7)


async def test_wrong_settings_are_said_without_details_to_the_client(open_socket: Connect, settings: Any) -> None:
    limit(settings, no_such_limit=1)
    error, code = await (await open_socket()).closed()
    assert code == 1011
    assert "no_such_limit" not in error["message"]


def test_a_bucket_lets_a_burst_through_and_refills_at_its_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=100)
    assert [bucket.take(100) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(101) for _ in range(3)] == [True, True, False]
    assert [bucket.take(50), bucket.take(1000)] == [False, True]  # a clock that goes back gives nothing
