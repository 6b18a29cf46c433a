"""The WebRTC handler on real aiortc and a real signaling server: the common suite, and what is its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect

from p2p_replication.exceptions import ConfigurationError, ConnectionClosed, SignalingRefused
from p2p_replication.transport.base import MAX_FRAME_BYTES
from p2p_replication.transport.webrtc import WebRTCHandler
from p2p_replication.transport.webrtc_connection import MAX_UNASSEMBLED_BYTES
from tests.transport.acceptance import DropSignaling, HandlerAcceptance, received
from tests.transport.members import TIMEOUT, Members, ended, until
from tests.transport.signaling_server import SmallSignalingServer


@pytest.fixture
async def server() -> AsyncIterator[SmallSignalingServer]:
    server = SmallSignalingServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def members(server: SmallSignalingServer) -> AsyncIterator[Members]:
    members = Members(WebRTCHandler)
    members.account = {"SIGNALING_URL": server.url}
    members.options = {"RETRY_FIRST": 0.05, "RETRY_MAX": 0.5}
    yield members
    await members.stop()


@pytest.fixture
def drop_signaling(server: SmallSignalingServer) -> DropSignaling:
    return server.drop


class TestWebRTCHandler(HandlerAcceptance):
    pass


def only(kind: str, change: Callable[[dict[str, Any]], list[dict[str, Any]]], *, times: int = 1000) -> Any:
    """Return a rewriting of signals that changes the first so many of one kind."""
    left = times

    def rewrite(message: dict[str, Any]) -> list[dict[str, Any]]:
        nonlocal left
        if message["data"].get("type") != kind or left <= 0:
            return [message]
        left -= 1
        return change(message)

    return rewrite


def with_sdp(message: dict[str, Any], sdp: str) -> dict[str, Any]:
    return message | {"data": message["data"] | {"sdp": sdp}}


async def test_both_ends_know_both_fingerprints(members: Members) -> None:
    a, b = await members.pair()
    assert len(a.local_fingerprint) == len(a.remote_fingerprint) == 32
    assert (a.local_fingerprint, a.remote_fingerprint) == (b.remote_fingerprint, b.local_fingerprint)
    assert a.local_fingerprint != a.remote_fingerprint


async def test_rows_do_not_travel_over_signaling(members: Members) -> None:
    a, b = members.start("a:1"), members.start("b:1")
    connection = await a.connection_to("b:1")
    arriving = await b.connection_to("a:1")
    client = a.handler.signaling  # type: ignore[attr-defined]
    before = client.sent_bytes, client.received_bytes
    assert min(before) > 100
    for _ in range(10):
        await connection.send(bytes(MAX_FRAME_BYTES))
    await received(arriving, 10)
    assert (client.sent_bytes, client.received_bytes) == before


async def test_an_open_connection_outlives_the_signaling_server(server: SmallSignalingServer, members: Members) -> None:
    a, b = members.start("a:1"), members.start("b:1")
    ends = await a.connection_to("b:1"), await b.connection_to("a:1")
    await server.stop()
    await until(lambda: any("Signaling server" in report for report in a.reports))
    await ends[0].send(b"on we go")
    assert await received(ends[1], 1) == [b"on we go"]
    await server.start()
    c = members.start("c:1")
    await c.connection_to("a:1")
    await c.connection_to("b:1")
    assert a.open_to("b:1") == [ends[0]]


async def test_servers_that_tell_no_instances_will_do(members: Members) -> None:
    """RxDB's own server lists nothing but ids."""
    server = SmallSignalingServer(tells_peers=False)
    await server.start()
    members.account = {"SIGNALING_URL": server.url}
    a, b = members.start("a:1"), members.start("b:1")
    connection = await a.connection_to("")
    await connection.send(b"hello")
    assert await received(await b.connection_to(""), 1) == [b"hello"]
    await b.stop()
    await a.stop()
    await server.stop()


@pytest.mark.parametrize("kind", ["offer", "answer"])
async def test_trickled_candidates_without_an_end_connect(
    server: SmallSignalingServer, members: Members, kind: str
) -> None:
    """As browsers and node-datachannel send them, with ``a=`` and without; some before the description."""

    def trickle(message: dict[str, Any]) -> list[dict[str, Any]]:
        lines = message["data"]["sdp"].splitlines(keepends=True)
        candidates = [line.strip() for line in lines if line.startswith("a=candidate:")]
        kept = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
        assert candidates
        forms = [{"candidate": c, "sdpMid": "0", "sdpMLineIndex": None} for c in candidates]
        forms += [{"candidate": c.removeprefix("a="), "sdpMid": None, "sdpMLineIndex": 0} for c in candidates]
        signals = [message | {"data": {"type": "candidate", "candidate": form}} for form in forms]
        garbage = message | {"data": {"type": "candidate", "candidate": {"candidate": "candidate:nonsense"}}}
        description = with_sdp(message, "".join(kept))
        return [garbage, signals[0], description, garbage, *signals] if kind == "answer" else [description, *signals]

    server.rewrite = only(kind, trickle)
    a, b = members.start("a:1"), members.start("b:1")
    await a.connection_to("b:1")
    await b.connection_to("a:1")
    assert all("candidate that is ignored" in report for report in a.reports + b.reports)


@pytest.mark.parametrize("kind", ["offer", "answer"])
async def test_a_lost_description_is_reported_and_tried_again(
    server: SmallSignalingServer, members: Members, kind: str
) -> None:
    members.options["CONNECT_TIMEOUT"] = 0.4
    server.rewrite = only(kind, lambda message: [], times=1)
    before = len(os.listdir("/proc/self/fd"))
    a, b = members.start("a:1"), members.start("b:1")
    connection = await a.connection_to("b:1")
    assert any("no data channel opened within 0.4 s" in report for report in a.reports)
    await connection.send(b"at last")
    assert await received(await b.connection_to("a:1"), 1) == [b"at last"]
    await b.stop()
    await a.stop()
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


@pytest.mark.parametrize("kind", ["offer", "answer"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda sdp: "nonsense", "describes nothing", id="no-sdp"),
        pytest.param(lambda sdp: sdp.replace("a=setup:", "a=nosetup:"), "refused", id="no-role"),
        pytest.param(
            lambda sdp: sdp + sdp[sdp.index("m=application") :], "describes application, application", id="two"
        ),
        pytest.param(lambda sdp: re.sub(r"sha-256 ..:", "sha-256 ", sdp), "no SHA-256 digest", id="short-digest"),
    ],
)
async def test_a_spoilt_description_is_reported_and_tried_again(
    server: SmallSignalingServer, members: Members, kind: str, spoil: Callable[[str], str], said: str
) -> None:
    members.options["CONNECT_TIMEOUT"] = 0.5
    server.rewrite = only(kind, lambda message: [with_sdp(message, spoil(message["data"]["sdp"]))], times=1)
    a, b = members.start("a:1"), members.start("b:1")
    await a.connection_to("b:1")
    assert any(said in report for report in a.reports + b.reports)


async def test_a_server_that_puts_its_own_fingerprint_in_gets_no_connection(
    server: SmallSignalingServer, members: Members
) -> None:
    members.options["CONNECT_TIMEOUT"] = 0.5

    def forge(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [with_sdp(message, re.sub(r"(sha-256) \S+", r"\1 " + ":".join(["AB"] * 32), message["data"]["sdp"]))]

    server.rewrite = only("answer", forge)
    a, b = members.start("a:1"), members.start("b:1")
    await until(lambda: any("gave up" in report for report in a.reports))
    await until(lambda: len(a.reports) > 1)
    assert a.connections == []
    assert b.open == []


async def test_an_offer_that_overtakes_the_news_of_its_sender_is_kept(members: Members) -> None:
    server = SmallSignalingServer(first_number=1)
    server.announce_late = 0.15
    await server.start()
    members.account = {"SIGNALING_URL": server.url}
    members.options["CONNECT_TIMEOUT"] = 1.0
    a = members.start("a:1")
    await until(lambda: len(server.received) == 1)
    b = members.start("b:1")
    await b.connection_to("a:1")
    assert a.reports + b.reports == []
    await b.stop()
    await a.stop()
    await server.stop()


async def test_a_peer_that_signals_nonsense_harms_nobody(server: SmallSignalingServer, members: Members) -> None:
    members.options["CONNECT_TIMEOUT"] = 0.5
    a = members.start("a:1")
    await until(lambda: len(server.received) == 1)
    async with connect(server.url, proxy=None) as socket:
        own = json.loads(await socket.recv())["yourPeerId"]
        await socket.send(json.dumps({"type": "join", "room": "field-team", "instance": "evil:1", "name": "evil"}))
        await socket.recv()
        victim = next(peer_id for peer_id in server.clients if peer_id != own)
        nonsense: list[Any] = [None, [], "x", 7, {}, {"type": 5}, {"type": ["offer"]}, {"type": "renegotiate"}]
        nonsense += [{"type": kind, "sdp": sdp} for kind in ("offer", "answer") for sdp in (None, 1, "", "m=audio x")]
        nonsense += [{"type": "candidate", "candidate": value} for value in (1, {}, {"candidate": "x" * 5000}, None)]
        for data in nonsense * 3:
            for extra in ({}, {"connectionId": "abc"}, {"connectionId": 5}):
                signal = {"type": "signal", "senderPeerId": own, "receiverPeerId": victim, "data": data}
                await socket.send(json.dumps(signal | extra))
        b = members.start("b:1")
        connection = await a.connection_to("b:1")
        await connection.send(b"all well")
        assert await received(await b.connection_to("a:1"), 1) == [b"all well"]
    assert not a.task.done()


async def test_a_text_frame_ends_the_connection_with_a_reason(members: Members) -> None:
    a, b = await members.pair()
    a._channel.send("text")  # type: ignore[attr-defined]
    assert "binary frames only" in await ended(b)
    await ended(a)


async def test_a_frame_above_the_limit_ends_the_connection_of_its_receiver(members: Members) -> None:
    a, b = await members.pair()
    a._channel.send(bytes(MAX_FRAME_BYTES + 1))  # type: ignore[attr-defined]
    assert "65537 bytes" in await ended(b)


async def test_a_message_that_does_not_end_fills_no_memory(members: Members) -> None:
    a, b = await members.pair()
    channel = a._channel  # type: ignore[attr-defined]
    endless = asyncio.create_task(channel.transport._send(channel.id, 53, bytes(16 * MAX_UNASSEMBLED_BYTES)))
    assert "does not end" in await ended(b)
    await asyncio.gather(endless, return_exceptions=True)


async def test_received_frames_that_nobody_takes_end_the_connection_at_the_limit(members: Members) -> None:
    a, b = await members.pair()
    b._inbox._max_bytes = 4 * MAX_FRAME_BYTES  # type: ignore[attr-defined]
    with pytest.raises(ConnectionClosed):
        async with asyncio.timeout(TIMEOUT):
            while True:
                await a.send(bytes(MAX_FRAME_BYTES))
    with pytest.raises(ConnectionClosed, match="wait to be processed"):
        await b.receive()


async def test_a_second_data_channel_is_closed_and_reported(members: Members) -> None:
    a, b = members.start("a:1"), members.start("b:1")
    ends = await a.connection_to("b:1"), await b.connection_to("a:1")
    ends[0]._pc.createDataChannel("one more")  # type: ignore[attr-defined]
    await until(lambda: any("one more data channel" in report for report in b.reports))
    await ends[0].send(b"as before")
    assert await received(ends[1], 1) == [b"as before"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"account": {}}, "SIGNALING_URL ''"),
        ({"account": {"SIGNALING_URL": "https://example.org/"}}, "is no WebSocket address"),
        ({"options": {"CONECT_TIMEOUT": 3}}, "no option 'CONECT_TIMEOUT'"),
        ({"options": {"CONNECT_TIMEOUT": "3"}}, "must be a positive number, not '3'"),
        ({"ice_servers": [{"url": "stun:example.org"}]}, "ICE_SERVERS"),
        ({"ice_servers": [{"urls": "https://example.org"}]}, "'https://example.org' is no STUN or TURN address"),
    ],
)
async def test_what_cannot_work_is_refused_with_its_remedy(
    members: Members, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        await members.start("a:1", **changes).task


async def test_refusal_by_the_server_ends_run(members: Members) -> None:
    server = SmallSignalingServer(token="right")
    await server.start()
    refused = members.start("a:1", account={"SIGNALING_URL": server.url, "TOKEN": "wrong"})
    with pytest.raises(SignalingRefused, match="this token is not valid") as caught:
        await refused.task
    assert caught.value.code == 4401
    await server.stop()


def test_the_contract_and_the_memory_handler_do_not_import_aiortc() -> None:
    """Importing aiortc takes a second."""
    modules = "p2p_replication.transport.memory, p2p_replication.transport.identity"
    code = f"import sys, {modules}; print('aiortc' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.strip() == "False"
