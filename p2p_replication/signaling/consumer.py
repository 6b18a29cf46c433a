"""The signaling endpoint: speaks RxDB's signaling messages, lets only known users in, and trusts no client.

docs/signaling.md describes the messages, the close codes and the set-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from channels.db import database_sync_to_async
from channels.exceptions import ChannelFull
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer
from django.db import Error as DatabaseProblem

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.signaling import messages
from p2p_replication.signaling.authentication import Credential, authenticate
from p2p_replication.signaling.limits import SignalingLimits, TokenBucket, read_limits
from p2p_replication.signaling.local_sockets import Listing, LocalSockets, group_name, local_sockets
from p2p_replication.signaling.presence import Member
from p2p_replication.signaling.refusals import Code, Refusal
from p2p_replication.signaling.rooms import room_id

logger = logging.getLogger(__name__)

_PEER_ID_CHARS = 12
_FULL_RETRIES = 5
_FULL_RETRY_DELAY = 0.05


@dataclass
class _Room:
    """A room as this socket sees it."""

    topic: str
    member: Member
    #: By peer id, as of the read with this number.
    members: dict[str, Member] = field(default_factory=dict)
    number: int = 0
    shown: list[messages.PeerInfo] | None = None
    #: Servers that were said to be out of reach.
    apart: frozenset[str] = frozenset()


class SignalingConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One client's socket. Route it bare or inside Channels' own session, authentication and origin wrappers."""

    peer_id: str
    credential: Credential

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rooms: dict[str, _Room] = {}
        self._open = False
        self._user: Any = None
        self._limits = SignalingLimits()
        self._sockets: LocalSockets | None = None
        self._idle_check: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Whatever ended this socket (a goodbye, a dead layer, a cancelled task), it leaves no ghost behind.
            await self._end()

    # What LocalSockets asks of a socket

    def memberships(self) -> Mapping[str, Member]:
        return {topic: room.member for topic, room in self._rooms.items()}

    def knows(self, listing: Listing) -> bool:
        room = self._room_by_id(listing.room)
        return room is None or listing.number < room.number or list(room.members.values()) == listing.members

    async def refuse(self, refusal: Refusal) -> None:
        """Tell the client, and close the socket unless it is about one room only."""
        if not self._open:
            return
        await self._send(messages.error(refusal.code, refusal.message, refusal.room))
        if refusal.room is None:
            self._open = False
            with contextlib.suppress(OSError, RuntimeError):  # the client went first
                await self.close(int(refusal.code))
            await self._end()
        elif refusal.code == Code.NOT_ALLOWED and (room := self._rooms.pop(refusal.room, None)) is not None:
            assert self._sockets is not None  # an open socket is attached
            await self._sockets.leave(room.member)

    async def show_members(self, listing: Listing) -> None:
        room = self._room_by_id(listing.room)
        if room is None or listing.number < room.number:
            return
        room.number = listing.number
        apart = self._servers_apart(listing)
        room.members = {member.peer_id: member for member in listing.members}
        reachable = [member.info for member in listing.members if member.server not in apart]
        newly_apart, room.apart = apart - room.apart, apart
        if reachable != room.shown:
            room.shown = reachable
            await self._send(messages.joined(room.topic, reachable))
        # After the list: a client takes an error that comes before it for a refused join.
        if newly_apart:
            await self._send(messages.error(Code.SERVERS_APART, _servers_apart_text(), room.topic))

    # From the client

    async def connect(self) -> None:
        await self.accept()
        self._open = True
        try:
            await self._let_in()
        except Refusal as refusal:
            await self.refuse(refusal)
        except Exception as problem:
            await self._refuse_unexpected(problem)

    async def websocket_receive(self, message: Mapping[str, Any]) -> None:
        if not self._open:
            return
        try:
            await self._receive(message)
        except Refusal as refusal:
            await self.refuse(refusal)
        except Exception as problem:
            await self._refuse_unexpected(problem)

    async def disconnect(self, code: int) -> None:
        await self._end()

    # From the channel layer

    async def p2p_room_changed(self, message: Mapping[str, Any]) -> None:
        if self._room_by_id(message["room"]) is None or self._sockets is None:
            return
        try:
            await self.show_members(await self._sockets.listing(message["room"]))
        except DatabaseProblem as problem:
            logger.warning("The database refused to tell a room's members; the next check will: %s", problem)

    async def p2p_signal(self, message: Mapping[str, Any]) -> None:
        room = self._room_by_id(message["room"])
        if room is None or message["receiver"] != self.peer_id:
            return
        await self._send(
            messages.signal(
                room.topic, message["sender"], message["receiver"], message["data"], message["connection_id"]
            )
        )

    # The rest is private

    async def _let_in(self) -> None:
        self._limits = read_limits()
        if self.channel_layer is None:
            raise ConfigurationError("CHANNEL_LAYERS has no default entry; signaling needs one.")
        identity = await database_sync_to_async(authenticate)(self.scope)
        self._user, self.credential = identity.user, identity.credential
        self.peer_id = "".join(secrets.choice(string.ascii_lowercase) for _ in range(_PEER_ID_CHARS))
        self._bucket = TokenBucket(self._limits.messages_per_second, self._limits.message_burst, time.monotonic())
        self._heard_at = time.monotonic()
        self._sockets = local_sockets()
        await self._sockets.attach(self, self._limits)
        self._watch_idleness()
        await self._send(messages.init(self.peer_id))

    async def _receive(self, message: Mapping[str, Any]) -> None:
        self._heard_at = time.monotonic()
        if not self._bucket.take(self._heard_at):
            raise Refusal(
                Code.RATE,
                f"More than {self._limits.message_burst} messages at once, or more than "
                f"{self._limits.messages_per_second:g} a second, are too many.",
            )
        text = message.get("text")
        if text is None:
            raise Refusal(Code.MALFORMED, "Malformed message: a binary frame. Send JSON in text frames.")
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if size > self._limits.max_message_bytes:
            raise Refusal(
                Code.TOO_LARGE, f"A message of {size} bytes; at most {self._limits.max_message_bytes} are allowed."
            )
        parsed = messages.parse(text)
        if isinstance(parsed, messages.Join):
            await self._join(parsed)
        elif isinstance(parsed, messages.Signal):
            await self._forward(parsed)

    async def _join(self, join: messages.Join) -> None:
        if join.topic in self._rooms:
            return
        if len(self._rooms) >= self._limits.rooms_per_socket:
            raise Refusal(
                Code.LIMIT, f"This socket is in {len(self._rooms)} rooms already, which is its limit.", join.topic
            )
        room = await database_sync_to_async(room_id)(self._user, join.topic)
        if room is None:
            raise Refusal(Code.NOT_ALLOWED, f"You may not join the room {join.topic!r}.", join.topic)
        if (same := self._room_by_id(room)) is not None:
            raise Refusal(Code.NOT_ALLOWED, f"{join.topic!r} is the room {same.topic!r}, joined already.", join.topic)
        assert self._sockets is not None  # messages are read only after _let_in
        member = Member(
            room=room,
            peer_id=self.peer_id,
            channel_name=self.channel_name,
            server=self._sockets.server,
            instance=join.instance,
            name=join.name,
            user=str(self._user.get_username())[: messages.MAX_NAME_CHARS],
        )
        # Listening begins before the row is there, so that no change after it can be missed.
        await self.channel_layer.group_add(group_name(room), self.channel_name)
        self._rooms[join.topic] = _Room(join.topic, member)
        try:
            await self._sockets.join(member)
        except Refusal as refusal:
            del self._rooms[join.topic]
            await self._sockets.leave(member)
            raise Refusal(refusal.code, refusal.message, join.topic) from None
        with contextlib.suppress(DatabaseProblem):  # told at the next check
            await self.show_members(await self._sockets.listing(room))

    async def _forward(self, signal: messages.Signal) -> None:
        if signal.sender != self.peer_id:
            raise Refusal(Code.MALFORMED, f"Malformed message: senderPeerId is not yours, which is {self.peer_id!r}.")
        room = self._rooms.get(signal.topic)
        if room is None:
            raise Refusal(Code.NOT_ALLOWED, f"You have not joined the room {signal.topic!r}.", signal.topic)
        receiver = await self._find(room, signal.receiver)
        if receiver is None:
            raise Refusal(Code.NO_SUCH_PEER, f"No peer {signal.receiver!r} can be reached in this room.", signal.topic)
        message = {
            "type": "p2p.signal",
            "room": receiver.room,
            "sender": signal.sender,
            "receiver": signal.receiver,
            "data": signal.data,
            "connection_id": signal.connection_id,
        }
        for _ in range(_FULL_RETRIES):
            try:
                await self.channel_layer.send(receiver.channel_name, message)
                return
            except ChannelFull:
                await asyncio.sleep(_FULL_RETRY_DELAY)
        raise Refusal(
            Code.TRY_AGAIN_LATER, f"The way to {signal.receiver!r} is full, its signal was dropped.", signal.topic
        )

    async def _find(self, room: _Room, peer_id: str) -> Member | None:
        """The member with this id, if it can be reached. A socket of ours that is gone is removed on the way."""
        assert self._sockets is not None  # messages are read only after _let_in
        if peer_id not in room.members:
            with contextlib.suppress(DatabaseProblem):
                await self.show_members(await self._sockets.listing(room.member.room))
        member = room.members.get(peer_id)
        if member is None or member.server in room.apart:
            return None
        if member.server == self._sockets.server and not self._sockets.holds(member.channel_name):
            await self._sockets.remove_ghost(member)
            return None
        return member

    def _room_by_id(self, room_id: str) -> _Room | None:
        return next((room for room in self._rooms.values() if room.member.room == room_id), None)

    def _servers_apart(self, listing: Listing) -> frozenset[str]:
        """Servers of these members that no message of ours can reach, as each has a channel layer of its own."""
        if not isinstance(self.channel_layer, InMemoryChannelLayer) or self._sockets is None:
            return frozenset()
        return frozenset(member.server for member in listing.members) - {self._sockets.server}

    def _watch_idleness(self) -> None:
        silent = time.monotonic() - self._heard_at
        if silent >= self._limits.idle_timeout:
            if self._sockets is not None:
                text = f"Nothing was heard for {self._limits.idle_timeout:g} seconds. Send a ping now and then."
                self._sockets.spawn(self.refuse(Refusal(Code.IDLE, text)))
            return
        loop = asyncio.get_running_loop()
        self._idle_check = loop.call_later(self._limits.idle_timeout - silent, self._watch_idleness)

    async def _refuse_unexpected(self, problem: Exception) -> None:
        if isinstance(problem, DatabaseProblem):
            logger.warning("The database failed a signaling client: %s", problem)
            await self.refuse(Refusal(Code.TRY_AGAIN_LATER, "The server's database is busy. Try again in a moment."))
        elif isinstance(problem, ConfigurationError):
            logger.error("Signaling cannot work: %s", problem)
            await self.refuse(Refusal(Code.INTERNAL, "The server is not configured correctly; its log says more."))
        else:
            logger.error("Signaling failed on a client's message", exc_info=problem)
            await self.refuse(Refusal(Code.INTERNAL, "The server failed on this; its log says more."))

    async def _send(self, text: str) -> None:
        if self._open:
            with contextlib.suppress(OSError, RuntimeError):  # the client went first; its disconnect is on the way
                await self.send(text_data=text)

    async def _end(self) -> None:
        self._open = False
        if self._idle_check is not None:
            self._idle_check.cancel()
        if self._sockets is not None:
            await self._sockets.detach(self)


def _servers_apart_text() -> str:
    return (
        "Members of this room are connected to another server process, which cannot be reached: each process has an "
        "in-memory channel layer of its own. Set CHANNEL_LAYERS to channels_redis.core.RedisChannelLayer, "
        "or run one server process."
    )
