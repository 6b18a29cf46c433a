"""Signaling clients for the tests: in-process sockets of one user or another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth import get_user_model

from p2p_replication.routing import websocket_urlpatterns
from p2p_replication.signaling.tokens import create_token

PATH = "/p2p/signaling/"


class Client:
    """One socket, with the messages as Python values."""

    def __init__(self, communicator: WebsocketCommunicator) -> None:
        self.communicator = communicator
        self.peer_id = ""
        #: The test breaks this socket on purpose; otherwise an exception in its consumer fails the test.
        self.broken_on_purpose = False

    async def send(self, message: Any) -> None:
        await self.send_text(json.dumps(message))

    async def send_text(self, text: str) -> None:
        await self.communicator.send_input({"type": "websocket.receive", "text": text})

    async def receive(self, kind: str | None = None, *, timeout: float = 5) -> dict[str, Any]:
        """The next message, or the next of this type; those in between are passed over."""
        while True:
            output = await self.communicator.receive_output(timeout)
            assert output["type"] == "websocket.send", output
            message: dict[str, Any] = json.loads(output["text"])
            if kind is None or message["type"] == kind:
                return message

    async def closed(self, *, timeout: float = 5) -> tuple[dict[str, Any], int]:
        """Wait until the server closes the socket; returns its last error and the close code."""
        error: dict[str, Any] = {}
        while True:
            output = await self.communicator.receive_output(timeout)
            if output["type"] == "websocket.close":
                return error, output["code"]
            message = json.loads(output["text"])
            error = message if message["type"] == "error" else error

    async def join(self, room: str, **extra: Any) -> list[str]:
        """Join a room and return the ids that are in it, the own one included."""
        await self.send({"type": "join", "room": room, **extra})
        joined = await self.receive("joined")
        return list(joined["otherPeerIds"])

    async def until_members(self, *clients: Client) -> dict[str, Any]:
        """Wait for the ``joined`` message that lists just these clients."""
        wanted = {client.peer_id for client in clients}
        while True:
            joined = await self.receive("joined")
            if set(joined["otherPeerIds"]) == wanted:
                return joined

    async def signal(self, room: str, receiver: str, data: Any, **extra: Any) -> None:
        await self.send(
            {"type": "signal", "room": room, "senderPeerId": self.peer_id, "receiverPeerId": receiver, "data": data}
            | extra
        )

    async def is_alive(self, other: Client, room: str) -> None:
        """Assert that signals to and from this client still work."""
        await self.signal(room, other.peer_id, {"are you": "there"})
        assert (await other.receive("signal"))["data"] == {"are you": "there"}
        await other.signal(room, self.peer_id, {"I am": "here"})
        assert (await self.receive("signal"))["data"] == {"I am": "here"}

    async def disconnect(self) -> None:
        await self.communicator.disconnect()


Connect = Callable[..., Awaitable[Client]]


def bearer(secret: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {secret}".encode()


@pytest.fixture
async def open_socket(transactional_db: None) -> AsyncIterator[Connect]:
    """``await open_socket(application, headers=[...], path=...)``: a raw socket, closed at the end of the test."""
    opened: list[Client] = []

    async def connect(application: Any = None, *, headers: Any = (), path: str = PATH) -> Client:
        communicator = WebsocketCommunicator(application or URLRouter(websocket_urlpatterns), path, list(headers))
        opened.append(client := Client(communicator))
        accepted, _ = await communicator.connect(timeout=5)
        assert accepted
        return client

    yield connect
    results = await asyncio.gather(
        *(client.disconnect() for client in opened if not client.broken_on_purpose), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result


@pytest.fixture
async def connect(open_socket: Connect) -> Connect:
    """``await connect("ana")``: a client of that user (made if need be), let in by a device token."""

    def secret_of(username: str) -> str:
        user, _ = get_user_model().objects.get_or_create(username=username)
        return create_token(user, f"{username}'s device")[1]

    async def connect_as(username: str = "ana", application: Any = None) -> Client:
        secret = await database_sync_to_async(secret_of)(username)
        client = await open_socket(application, headers=[bearer(secret)])
        client.peer_id = (await client.receive("init"))["yourPeerId"]
        return client

    return connect_as
