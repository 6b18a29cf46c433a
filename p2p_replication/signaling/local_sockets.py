"""This server process's own sockets: what the database says of them is kept true, and their right to be here checked.

One ``LocalSockets`` per event loop. Its task runs while there is a socket and does in one go, for all of them, what
each would otherwise do alone: beating, sweeping dead members, looking for revoked tokens and withdrawn rooms.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import Error as DatabaseProblem

from p2p_replication.signaling import presence, tokens
from p2p_replication.signaling.authentication import Credential, still_valid
from p2p_replication.signaling.limits import SignalingLimits
from p2p_replication.signaling.presence import Member
from p2p_replication.signaling.refusals import Code, Refusal
from p2p_replication.signaling.rooms import room_id
from p2p_replication.signaling.server_process import new_server_name

logger = logging.getLogger(__name__)

#: How soon a round is tried again when the database was busy.
RETRY_DELAY = 1.0
#: Reads of a room's members within this time share one query.
GATHER_DELAY = 0.01

_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LocalSockets] = weakref.WeakKeyDictionary()


class Socket(Protocol):
    """What this module needs of a consumer."""

    channel_name: str
    peer_id: str
    credential: Credential

    def memberships(self) -> Mapping[str, Member]:
        """The rooms this socket is in, by topic."""

    async def refuse(self, refusal: Refusal) -> None: ...

    def knows(self, listing: Listing) -> bool:
        """Whether the client has been told of just these members (or of newer ones)."""

    async def show_members(self, listing: Listing) -> None: ...


@dataclass(frozen=True)
class Listing:
    """A room's members as of one read; a greater number is a later read."""

    number: int
    room: str
    members: list[Member]


class LocalSockets:
    """The sockets of one event loop. Get it with ``local_sockets()``."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.limits = SignalingLimits()
        self._sockets: dict[str, Socket] = {}
        self._reads: dict[str, asyncio.Task[Listing]] = {}
        self._read_number = 0
        self._wake = asyncio.Event()
        self._rounds: asyncio.Task[None] | None = None
        self._last_beat = float("-inf")
        self._tasks: set[asyncio.Task[Any]] = set()

    def holds(self, channel_name: str) -> bool:
        return channel_name in self._sockets

    async def attach(self, socket: Socket, limits: SignalingLimits) -> None:
        """Take a socket in. Before the first one, members left behind by killed servers are swept."""
        self.limits = limits
        self._sockets[socket.channel_name] = socket
        if self._rounds is None:
            self._rounds = asyncio.create_task(self._run(), name="p2p signaling rounds")
            with contextlib.suppress(DatabaseProblem):  # the rounds will try again
                await self._announce(await database_sync_to_async(presence.sweep)(limits.stale_after))

    async def detach(self, socket: Socket) -> None:
        """Forget a socket and remove it from its rooms, also if the caller is cancelled meanwhile."""
        if self._sockets.pop(socket.channel_name, None) is None:
            return
        if not self._sockets and self._rounds is not None:
            self._rounds.cancel()
            self._rounds = None
        await asyncio.shield(self.spawn(self._leave(socket, {m.room for m in socket.memberships().values()})))

    async def join(self, member: Member) -> None:
        """Write a membership. Raises Refusal if the room is full; a busy database only delays it."""
        try:
            await database_sync_to_async(presence.join)(member, self.limits.peers_per_room, self.limits.stale_after)
        except DatabaseProblem as problem:
            logger.warning("The database refused a signaling join, it will be tried again: %s", problem)
            self._wake.set()
            return
        await self._announce({member.room})

    async def leave(self, member: Member) -> None:
        """Leave one room."""
        await self._leave_rooms(member.channel_name, member.peer_id, {member.room}, one=member.room)

    async def listing(self, room: str) -> Listing:
        """Read a room's members; calls that come before the read has begun share it."""
        read = self._reads.get(room)
        if read is None:
            read = self._reads[room] = self.spawn(self._read(room))
        return await asyncio.shield(read)

    async def remove_ghost(self, member: Member) -> None:
        """Remove a member of this server whose socket is gone."""
        with contextlib.suppress(DatabaseProblem):
            await database_sync_to_async(presence.leave)(member.server, member.peer_id)
            await self._announce({member.room})

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something to its end, whoever waits for it or not."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            logger.warning("Signaling: %r", problem)

    async def _read(self, room: str) -> Listing:
        await asyncio.sleep(GATHER_DELAY)
        del self._reads[room]
        self._read_number += 1
        number = self._read_number
        found = await database_sync_to_async(presence.members)([room], self.limits.stale_after)
        return Listing(number, room, found[room])

    async def _leave(self, socket: Socket, rooms: set[str]) -> None:
        await self._leave_rooms(socket.channel_name, socket.peer_id, rooms)

    async def _leave_rooms(self, channel_name: str, peer_id: str, rooms: set[str], one: str | None = None) -> None:
        if not rooms:
            return
        layer = get_channel_layer()
        for room in rooms:
            try:
                await layer.group_discard(group_name(room), channel_name)
            except Exception as problem:  # whatever the layer's own backend raises
                logger.warning("The channel layer failed on leaving a room: %r", problem)
        try:
            await database_sync_to_async(presence.leave)(self.server, peer_id, one)
        except DatabaseProblem as problem:
            logger.warning("The database refused to remove a member, it will be tried again: %s", problem)
            self._wake.set()
        await self._announce(rooms)

    async def _announce(self, rooms: set[str]) -> None:
        """Let every member of these rooms, on every server, look again who is there."""
        layer = get_channel_layer()
        for room in rooms:
            try:
                await layer.group_send(group_name(room), {"type": "p2p.room_changed", "room": room})
            except Exception as problem:  # whatever the layer's own backend raises; the rounds repair it
                logger.warning("The channel layer failed to announce a change: %r", problem)

    async def _run(self) -> None:
        delay = self.limits.check_interval
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()
                await asyncio.sleep(RETRY_DELAY)
            self._wake.clear()
            delay = self.limits.check_interval
            try:
                await self._round()
            except DatabaseProblem as problem:
                logger.warning("The database refused the signaling server's check, it will be tried again: %s", problem)
                delay = RETRY_DELAY
            except Exception:  # the next round may do better, and without rounds nobody is ever thrown out
                logger.exception("The signaling server's check failed")

    async def _round(self) -> None:
        now = asyncio.get_running_loop().time()
        beat = now - self._last_beat >= self.limits.beat_interval
        sockets = list(self._sockets.values())
        self._read_number += 1
        number = self._read_number
        found = await database_sync_to_async(_check)(
            self.server,
            [(socket.credential, dict(socket.memberships())) for socket in sockets],
            beat,
            self.limits.stale_after,
        )
        if beat:
            self._last_beat = now
        for socket, refusals in zip(sockets, found.refusals, strict=True):
            for refusal in refusals:
                self.spawn(socket.refuse(refusal))
        await self._announce(found.changed)
        listings = {room: Listing(number, room, members) for room, members in found.members.items()}
        for socket in self._sockets.values():
            for room in {member.room for member in socket.memberships().values()} & listings.keys():
                if not socket.knows(listings[room]):
                    self.spawn(socket.show_members(listings[room]))


@dataclass(frozen=True)
class _Findings:
    refusals: list[list[Refusal]]
    changed: set[str]
    members: dict[str, list[Member]]


def _check(
    server: str, sockets: list[tuple[Credential, dict[str, Member]]], beat: bool, stale_after: float
) -> _Findings:
    """One round's work in the database thread."""
    local = [member for _, memberships in sockets for member in memberships.values()]
    changed = presence.reconcile(server, local, beat=beat) | presence.sweep(stale_after)
    users = still_valid([credential for credential, _ in sockets])
    refusals: list[list[Refusal]] = []
    for credential, memberships in sockets:
        if credential not in users:
            refusals.append([Refusal(Code.NOT_AUTHENTICATED, "The session, token or user is no longer valid.")])
        else:
            topics = [topic for topic, member in memberships.items() if _is_withdrawn(users[credential], topic, member)]
            refusals.append(
                [Refusal(Code.NOT_ALLOWED, f"You may no longer be in the room {topic!r}.", topic) for topic in topics]
            )
    if beat:
        tokens.mark_used([int(c.key) for c, _ in sockets if c.kind == "token" and c in users])
    return _Findings(refusals, changed, presence.members({member.room for member in local}, stale_after))


def _is_withdrawn(user: Any, topic: str, member: Member) -> bool:
    try:
        return room_id(user, topic) != member.room
    except DatabaseProblem:
        raise
    except Exception:  # the project's own code: its fault with one room must not stop the checks of all others
        logger.exception("ROOM_AUTHORIZER failed for the topic %r", topic)
        return False


def group_name(room: str) -> str:
    """The channel layer's group of a room."""
    return f"p2p.room.{room}"


def local_sockets() -> LocalSockets:
    """The running loop's sockets."""
    loop = asyncio.get_running_loop()
    if loop not in _by_loop:
        _by_loop[loop] = LocalSockets(new_server_name())
    return _by_loop[loop]
