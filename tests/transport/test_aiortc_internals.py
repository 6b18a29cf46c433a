"""Fails when a release of aiortc or aioice changes what ``aiortc_internals`` relies on."""

from __future__ import annotations

import asyncio
import inspect

import aioice.ice
import aioice.turn
import pytest
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection
from aiortc.rtcsctptransport import RTCSctpTransport

from p2p_replication.transport import aiortc_internals
from p2p_replication.transport.aiortc_internals import (
    INITIAL_RECEIVE_WINDOW,
    set_udp_buffer_size,
    unacknowledged_bytes,
    unassembled_bytes,
    wrap_host_addresses,
)
from tests.transport.members import until


async def connected() -> tuple[RTCPeerConnection, RTCPeerConnection, RTCDataChannel, list[bytes]]:
    one, other = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    channel = one.createDataChannel("test")
    received: list[bytes] = []

    @other.on("datachannel")
    def arrived(remote: RTCDataChannel) -> None:
        remote.on("message", received.append)

    await one.setLocalDescription()
    await other.setRemoteDescription(one.localDescription)
    await other.setLocalDescription()
    await one.setRemoteDescription(other.localDescription)
    await until(lambda: channel.readyState == "open")
    return one, other, channel, received


async def test_unacknowledged_bytes_count_what_is_queued_being_sent_and_in_flight() -> None:
    one, other, channel, received = await connected()
    await until(lambda: unacknowledged_bytes(channel) == 0)
    for _ in range(4):
        channel.send(bytes(50_000))
    assert unacknowledged_bytes(channel) == channel.bufferedAmount == 200_000
    await asyncio.sleep(0)
    # one message is with SCTP now, where bufferedAmount does not see it
    assert unacknowledged_bytes(channel) == 200_000
    assert channel.bufferedAmount == 150_000
    await until(lambda: unacknowledged_bytes(channel) == 0)
    assert received == [bytes(50_000)] * 4
    await asyncio.gather(one.close(), other.close())


async def test_unassembled_bytes_count_the_parts_of_an_unfinished_message(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, _, _ = await connected()
    sctp = other.sctp
    assert sctp is not None
    assert unassembled_bytes(sctp) == 0
    most = 0
    receive = sctp._receive_data_chunk

    async def watch(chunk: object) -> None:
        nonlocal most
        await receive(chunk)
        most = max(most, unassembled_bytes(sctp))

    monkeypatch.setattr(sctp, "_receive_data_chunk", watch)
    assert one.sctp is not None
    channel = one.createDataChannel("second")
    await until(lambda: channel.readyState == "open")
    channel.send(bytes(50_000))
    await until(lambda: most > 40_000 and unassembled_bytes(sctp) == 0)
    await asyncio.gather(one.close(), other.close())


def test_the_receive_window_starts_as_assumed() -> None:
    source = inspect.getsource(RTCSctpTransport.__init__)
    assert "self._advertised_rwnd = 1024 * 1024" in source
    assert INITIAL_RECEIVE_WINDOW == 1024 * 1024


async def test_gathering_asks_the_wrapped_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    wrap_host_addresses(lambda listing: lambda use_ipv4, use_ipv6: listing(use_ipv4, use_ipv6)[:1])
    connection = aioice.ice.Connection(ice_controlling=True)
    await connection.gather_candidates()
    assert [candidate.host for candidate in connection.local_candidates] == ["127.0.0.1"]
    await connection.close()


def test_the_udp_buffer_size_is_read_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.turn, "UDP_SOCKET_BUFFER_SIZE", 262_144)
    set_udp_buffer_size(1_000_000)
    assert aioice.turn.UDP_SOCKET_BUFFER_SIZE == 1_000_000
    assert "turn.UDP_SOCKET_BUFFER_SIZE" in inspect.getsource(aioice.ice.Connection.get_component_candidates)


def test_no_other_module_of_the_transport_touches_private_attributes_of_aiortc() -> None:
    from pathlib import Path

    folder = Path(aiortc_internals.__file__).parent
    private = ("._outbound_queue", "._sent_queue", "._advertised_rwnd", "aioice", "._ssl", "RTCPeerConnection__")
    for module in folder.glob("*.py"):
        if module.name != "aiortc_internals.py":
            text = module.read_text()
            assert not [name for name in private if name in text], module
