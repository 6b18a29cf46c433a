"""Joining, being told of each other, and passing signals on."""

from __future__ import annotations

import re
from typing import Any

from tests.signaling.conftest import Connect


async def test_the_server_makes_the_peer_id_of_twelve_letters(connect: Connect) -> None:
    first, second = await connect(), await connect()
    assert re.fullmatch("[a-z]{12}", first.peer_id)
    assert first.peer_id != second.peer_id


async def test_everybody_is_told_of_each_join_and_leave_including_the_own_id(connect: Connect) -> None:
    first, second = await connect(), await connect()
    assert await first.join("team") == [first.peer_id]
    assert await second.join("team") == [first.peer_id, second.peer_id]
    await first.until_members(first, second)
    await second.disconnect()
    await first.until_members(first)


async def test_joined_says_who_the_members_are(connect: Connect) -> None:
    first, second = await connect(), await connect()
    await first.join("team", instance="r1:s1", name="Ana's laptop")
    await second.send({"type": "join", "room": "team"})
    joined = await second.receive("joined")
    assert joined["room"] == "team"
    assert joined["peers"] == [
        {"id": first.peer_id, "instance": "r1:s1", "name": "Ana's laptop", "user": "ana"},
        {"id": second.peer_id, "instance": "", "name": "", "user": "ana"},
    ]


async def test_a_signal_arrives_unchanged(connect: Connect) -> None:
    first, second = await connect(), await connect()
    await first.join("team")
    await second.join("team")
    data: dict[str, Any] = {"type": "offer", "sdp": "v=0\r\nö \U0001f98e", "n": [1.5, 10**30, None, True, {"": []}]}
    await first.signal("team", second.peer_id, data, connectionId="abcdefghij")
    assert await second.receive("signal") == {
        "type": "signal",
        "room": "team",
        "senderPeerId": first.peer_id,
        "receiverPeerId": second.peer_id,
        "connectionId": "abcdefghij",
        "data": data,
    }
    await second.signal("team", first.peer_id, None)
    answer = await first.receive("signal")
    assert answer["data"] is None
    assert "connectionId" not in answer
