"""A tiny signaling server, enough to introduce peers: as this package's own one, or as RxDB's (without ``peers``)."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve


@dataclass
class Client:
    socket: ServerConnection
    peer_id: str
    room: str = ""
    instance: str = ""
    name: str = ""


class SmallSignalingServer:
    """Args:
    tells_peers: False for the messages of RxDB's own server, which knows no instances.
    token: refuse clients without this token.
    first_number: with an even one the first client offers to the second, with an odd one the second to the first.
    """

    def __init__(self, *, tells_peers: bool = True, token: str = "", first_number: int = 0) -> None:
        self.tells_peers = tells_peers
        self.token = token
        self.clients: dict[str, Client] = {}
        self.received: list[dict[str, Any]] = []
        self.request_headers: list[dict[str, str]] = []
        #: Turns a signal into those that are delivered in its place.
        self.rewrite: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda message: [message]
        #: Seconds by which the members that were there before learn of a newcomer later than the newcomer itself.
        self.announce_late = 0.0
        self._numbers = itertools.count(first_number)
        self._server: Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/p2p/signaling/"

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self.port, close_timeout=0.2)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def drop(self, instance: str) -> None:
        """Close the sockets of an instance, which then comes back under another peer id."""
        for client in [client for client in self.clients.values() if client.instance == instance]:
            await client.socket.close(1001)

    async def say(self, text: str | bytes) -> None:
        """Send anything to everybody."""
        for client in self.clients.values():
            await client.socket.send(text)

    async def announce(self, room: str) -> None:
        members = [client for client in self.clients.values() if client.room == room]
        message: dict[str, Any] = {"type": "joined", "otherPeerIds": [client.peer_id for client in members]}
        if self.tells_peers:
            message["room"] = room
            message["peers"] = [
                {"id": c.peer_id, "instance": c.instance, "name": c.name, "user": "ana"} for c in members
            ]
        for client in reversed(members):
            await client.socket.send(json.dumps(message))
            await asyncio.sleep(self.announce_late)

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.request_headers.append(dict(socket.request.headers))
        if self.token and socket.request.headers.get("Authorization") != f"Bearer {self.token}":
            await socket.send(json.dumps({"type": "error", "code": 4401, "message": "this token is not valid"}))
            await socket.close(4401)
            return
        # ids go up and down, so that who offers changes with each reconnect
        number = next(self._numbers)
        client = Client(socket, peer_id=f"{'mz'[number % 2]}{number:05}")
        await socket.send(json.dumps({"type": "init", "yourPeerId": client.peer_id}))
        self.clients[client.peer_id] = client
        try:
            async for text in socket:
                await self._handle(client, json.loads(text))
        finally:
            del self.clients[client.peer_id]
            await self.announce(client.room)

    async def _handle(self, client: Client, message: dict[str, Any]) -> None:
        self.received.append(message)
        if message["type"] == "join":
            client.room = message["room"]
            client.instance, client.name = message.get("instance", ""), message.get("name", "")
            await self.announce(client.room)
        elif message["type"] == "signal":
            for signal in self.rewrite(message):
                receiver = self.clients.get(signal["receiverPeerId"])
                if receiver is not None and receiver.room == client.room:
                    await receiver.socket.send(json.dumps(signal))
