"""The signaling client against a real WebSocket server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from p2p_replication.exceptions import ConfigurationError, ConnectionClosed, SignalingRefused
from p2p_replication.transport import signaling_client
from p2p_replication.transport.backoff import Backoff
from p2p_replication.transport.base import RemotePeer
from p2p_replication.transport.signaling_client import SignalingClient, url_origin
from p2p_replication.transport.signaling_messages import Signal
from tests.transport.members import TIMEOUT, until
from tests.transport.signaling_server import SmallSignalingServer


class Told:
    """A running client, and what it told."""

    def __init__(self, url: str, **arguments: Any) -> None:
        self.rooms: list[tuple[str, tuple[RemotePeer, ...]]] = []
        self.signals: list[Signal] = []
        self.losses = 0
        self.reports: list[str] = []
        self.client = SignalingClient(
            url,
            topic="field-team",
            instance=arguments.pop("instance", "a:1"),
            name="Ana's laptop",
            listener=self,
            report=self.reports.append,
            backoff=Backoff(0.02, 0.1),
            **arguments,
        )
        self.task = asyncio.create_task(self.client.run())

    def room_changed(self, own_id: str, members: tuple[RemotePeer, ...]) -> None:
        self.rooms.append((own_id, members))

    def signal_received(self, signal: Signal) -> None:
        self.signals.append(signal)

    def signaling_lost(self) -> None:
        self.losses += 1


@pytest.fixture
async def server() -> AsyncIterator[SmallSignalingServer]:
    server = SmallSignalingServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def start(server: SmallSignalingServer) -> AsyncIterator[Callable[..., Told]]:
    started: list[Told] = []

    def start(url: str = "", **arguments: Any) -> Told:
        started.append(Told(url or server.url, **arguments))
        return started[-1]

    yield start
    for told in started:
        told.task.cancel()
    await asyncio.gather(*(told.task for told in started), return_exceptions=True)


async def test_it_joins_and_learns_who_is_there(server: SmallSignalingServer, start: Callable[..., Told]) -> None:
    a = start()
    await until(lambda: len(a.rooms) == 1)
    b = start(instance="b:1")
    await until(lambda: len(a.rooms) == 2)
    own_id, members = a.rooms[-1]
    assert server.received[0] == {"type": "join", "room": "field-team", "instance": "a:1", "name": "Ana's laptop"}
    assert own_id == a.client.peer_id
    assert [(m.instance, m.name, m.user) for m in members] == [
        ("a:1", "Ana's laptop", "ana"),
        ("b:1", "Ana's laptop", "ana"),
    ]
    await a.client.send_signal(b.client.peer_id, {"type": "offer", "sdp": "..."}, "attempt")
    await until(lambda: len(b.signals) == 1)
    assert b.signals == [Signal(a.client.peer_id, {"type": "offer", "sdp": "..."}, "attempt")]
    assert a.client.sent_bytes > 100
    assert a.client.received_bytes > 100


async def test_it_sends_its_token_and_the_servers_own_origin(
    server: SmallSignalingServer, start: Callable[..., Told]
) -> None:
    start(token="abc")
    start(token=lambda: "fetched")
    start()
    await until(lambda: len(server.request_headers) == 3)
    headers = server.request_headers
    assert {h["origin"] for h in headers} == {f"http://127.0.0.1:{server.port}"}
    assert {h.get("authorization") for h in headers} == {"Bearer abc", "Bearer fetched", None}


async def test_a_token_that_cannot_be_fetched_is_reported_and_tried_again(
    server: SmallSignalingServer, start: Callable[..., Told]
) -> None:
    results: list[Any] = [OSError("vault is shut"), None, "fine"]

    def fetch() -> Any:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    told = start(token=fetch)
    await until(lambda: bool(told.rooms))
    assert "vault is shut" in told.reports[0]
    assert "returned NoneType, not str" in told.reports[1]


async def test_it_comes_back_under_a_new_id(server: SmallSignalingServer, start: Callable[..., Told]) -> None:
    told = start()
    await until(lambda: len(told.rooms) == 1)
    await server.drop("a:1")
    await until(lambda: len(told.rooms) == 2)
    assert told.rooms[0][0] != told.rooms[1][0]
    assert told.losses == 1
    await server.stop()
    await until(lambda: told.losses == 2)
    with pytest.raises(ConnectionClosed):
        await told.client.send_signal("b", {}, "")
    await until(lambda: any("cannot connect" in report for report in told.reports))
    await server.start()
    await until(lambda: len(told.rooms) == 3)


async def test_messages_that_make_no_sense_are_reported_and_harm_nothing(
    server: SmallSignalingServer, start: Callable[..., Told]
) -> None:
    told = start()
    await until(lambda: len(told.rooms) == 1)
    nonsense = [
        "null", "{", "[]", '"x"', "[" * 100_000, b"\x00\x01", "{}", '{"type": "party"}', '{"type": "init"}',
        '{"type": "init", "yourPeerId": 7}', '{"type": "joined"}', '{"type": "joined", "otherPeerIds": [1]}',
        '{"type": "joined", "peers": [{}]}', '{"type": "joined", "peers": {"id": "x"}}', '{"type": "signal"}',
        '{"type": "signal", "senderPeerId": "x", "data": null}',
        '{"type": "signal", "senderPeerId": "x", "data": {}, "connectionId": 5}',
    ]  # fmt: skip
    for message in nonsense:
        await server.say(message)
    await until(lambda: len(told.reports) == len(nonsense))
    assert all("makes no sense" in report for report in told.reports)
    await server.announce("field-team")
    await until(lambda: len(told.rooms) == 2)
    assert told.losses == 0


async def test_names_are_made_fit_to_be_stored(server: SmallSignalingServer, start: Callable[..., Told]) -> None:
    told = start()
    await until(lambda: len(told.rooms) == 1)
    await server.say('{"type": "joined", "peers": [{"id": "x", "name": "a\\u0000\\ud800b", "user": 5}]}')
    await until(lambda: len(told.rooms) == 2)
    assert told.rooms[1][1] == (RemotePeer("x", name="a\ufffd\ufffdb"),)


@pytest.mark.parametrize("code", [4401, 4403])
async def test_a_refusal_is_final(server: SmallSignalingServer, start: Callable[..., Told], code: int) -> None:
    told = start()
    await until(lambda: len(told.rooms) == 1)
    await server.say(f'{{"type": "error", "code": {code}, "message": "revoked"}}')
    for client in list(server.clients.values()):
        await client.socket.close(code)
    with pytest.raises(SignalingRefused, match="revoked") as caught:
        await asyncio.wait_for(told.task, TIMEOUT)
    assert caught.value.code == code


async def test_a_room_that_one_may_not_enter_is_a_refusal(
    server: SmallSignalingServer, start: Callable[..., Told]
) -> None:
    """The server leaves the socket open then, as other rooms on it may be fine."""
    told = start()
    await until(lambda: len(told.rooms) == 1)
    await server.say('{"type": "error", "code": 4403, "message": "not your room", "room": "field-team"}')
    with pytest.raises(SignalingRefused, match="not your room"):
        await asyncio.wait_for(told.task, TIMEOUT)


async def test_other_closes_are_reported_with_the_last_error_and_tried_again(
    server: SmallSignalingServer, start: Callable[..., Told]
) -> None:
    told = start()
    await until(lambda: len(told.rooms) == 1)
    await server.say('{"type": "error", "code": 4408, "message": "too quiet"}')
    for client in list(server.clients.values()):
        await client.socket.close(4408)
    await until(lambda: len(told.rooms) == 2)
    assert "too quiet (code 4408)" in told.reports[0]


async def test_a_full_room_is_tried_again(start: Callable[..., Told]) -> None:
    async def full(socket: ServerConnection) -> None:
        await socket.send('{"type": "init", "yourPeerId": "abc"}')
        await socket.recv()
        await socket.send('{"type": "error", "code": 4409, "message": "room is full", "room": "field-team"}')
        await socket.wait_closed()

    async with serve(full, "127.0.0.1", 0) as server:
        told = start(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await until(lambda: len(told.reports) == 2)
        assert "room is full (code 4409)" in told.reports[0]
        told.task.cancel()
        await asyncio.gather(told.task, return_exceptions=True)


@pytest.mark.parametrize(("status", "code"), [(401, 4401), (403, 4403), (404, None), (502, None)])
async def test_http_errors_say_what_to_check(start: Callable[..., Told], status: int, code: int | None) -> None:
    def respond(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus(status), "")

    async def never(socket: ServerConnection) -> None:
        raise AssertionError("not reached")

    async with serve(never, "127.0.0.1", 0, process_request=respond) as server:
        told = start(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/?ticket=secret")
        if code is None:
            await until(lambda: bool(told.reports))
            assert f"HTTP {status}; check SIGNALING_URL" in told.reports[0]
            assert "secret" not in told.reports[0]
            told.task.cancel()
            await asyncio.gather(told.task, return_exceptions=True)
        else:
            with pytest.raises(SignalingRefused) as caught:
                await asyncio.wait_for(told.task, TIMEOUT)
            assert caught.value.code == code


async def test_a_server_that_never_begins_is_left(start: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signaling_client, "OPEN_TIMEOUT", 0.1)

    async def mute(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with serve(mute, "127.0.0.1", 0) as server:
        told = start(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await until(lambda: len(told.reports) == 2)
        told.task.cancel()
        await asyncio.gather(told.task, return_exceptions=True)


async def test_a_connection_that_died_silently_is_noticed(
    start: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that accepts, speaks, and then never answers a ping: as behind a router that forgot us."""
    monkeypatch.setattr(signaling_client, "SOCKET_PING_INTERVAL", 0.05)
    monkeypatch.setattr(signaling_client, "SOCKET_PING_TIMEOUT", 0.1)
    monkeypatch.setattr(signaling_client, "CLOSE_TIMEOUT", 0.1)
    stuck: list[ServerConnection] = []

    async def freeze(socket: ServerConnection) -> None:
        await socket.send('{"type": "init", "yourPeerId": "abc"}')
        await socket.recv()
        socket.transport.pause_reading()
        stuck.append(socket)
        await socket.wait_closed()

    async with serve(freeze, "127.0.0.1", 0, ping_interval=None) as server:
        told = start(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await until(lambda: bool(told.reports))
        assert "the connection was lost" in told.reports[0]
        told.task.cancel()
        await asyncio.gather(told.task, return_exceptions=True)
        for socket in stuck:
            socket.transport.abort()


async def test_it_says_ping_now_and_then(
    server: SmallSignalingServer, start: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signaling_client, "APPLICATION_PING_INTERVAL", 0.02)
    start()
    await until(lambda: {"type": "ping"} in server.received)


async def test_a_proxy_of_the_environment_is_not_asked_for_this_host(
    server: SmallSignalingServer, start: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    told = start()
    await until(lambda: bool(told.rooms))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("ws://127.0.0.1:8001/p2p/signaling/", "http://127.0.0.1:8001"),
        ("wss://Example.org/p2p/?ticket=x", "https://example.org"),
        ("wss://example.org:443/", "https://example.org"),
        ("ws://user:pw@[::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_the_origin_is_the_urls_own(url: str, origin: str) -> None:
    assert url_origin(url) == origin


@pytest.mark.parametrize("url", ["", "http://example.org", "ws://", "example.org/p2p", "ws://host:99999999/", None])
def test_what_is_no_websocket_address_is_refused(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="SIGNALING_URL"):
        url_origin(url)
