"""One end of a connection inside one process; behaves as one over the network does, delays included."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from p2p_replication.exceptions import ConnectionClosed
from p2p_replication.transport.base import Connection, RemotePeer, checked_frame
from p2p_replication.transport.inbox import Inbox

#: As over WebRTC: ``send`` waits when this many bytes are on their way, and goes on when so many are left.
HIGH_WATER_BYTES = 256 * 1024
LOW_WATER_BYTES = 64 * 1024
#: How long ``close`` waits until what was sent has arrived, in seconds.
FLUSH_TIMEOUT = 2.0


class Wire:
    """The path between both ends, as the link policy shapes it."""

    def __init__(self, latency: Callable[[], float]) -> None:
        self.latency = latency
        #: Cleared while nothing gets through.
        self.passable = asyncio.Event()
        self.passable.set()


class MemoryConnection(Connection):
    """Made in pairs by ``connection_pair``."""

    def __init__(self, remote: RemotePeer, wire: Wire, on_end: Callable[[], None]) -> None:
        self.remote = remote
        self.other_end: MemoryConnection | None = None
        self._wire = wire
        self._on_end = on_end
        self._inbox = Inbox()
        self._outgoing: deque[tuple[float, bytes]] = deque()
        self._outgoing_bytes = 0
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._sending = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._pump = self._loop.create_task(self._carry())
        self._closing: asyncio.Task[None] | None = None
        self._ended = False
        self._end_reason = ""

    @property
    def is_open(self) -> bool:
        return not self._ended and self._closing is None

    @property
    def buffered_bytes(self) -> int:
        return self._outgoing_bytes

    async def send(self, frame: bytes) -> None:
        data = checked_frame(frame)
        async with self._sending:
            if self._outgoing_bytes >= HIGH_WATER_BYTES:
                await self._drained_to(LOW_WATER_BYTES)
            if not self.is_open:
                raise ConnectionClosed(self._end_reason)
            self._outgoing.append((self._loop.time() + self._wire.latency(), data))
            self._outgoing_bytes += len(data)
            self.sent_bytes += len(data)
            self._changed.set()
        # a sender that never has to wait must not keep everybody else from running
        await asyncio.sleep(0)

    async def receive(self) -> bytes:
        return await self._inbox.take()

    async def close(self, reason: str = "") -> None:
        if self._closing is None:
            self._end_reason = self._end_reason or reason or "closed by this side"
            self._closing = self._loop.create_task(self._flush_and_close())
            self._drained.set()
        # the closing goes on if the caller is cancelled
        await asyncio.shield(self._closing)

    async def _flush_and_close(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._drained_to(0, even_if_closing=True)
        except TimeoutError:
            pass
        self.end(self._end_reason, discard=True)
        if self.other_end is not None and self._wire.passable.is_set():
            self.other_end.end("the other side closed the connection")
        await asyncio.gather(self._pump, return_exceptions=True)

    def end(self, reason: str, *, discard: bool = False) -> None:
        """The connection is no more. What has arrived can still be received unless ``discard``."""
        if self._ended:
            return
        self._ended = True
        self._end_reason = self._end_reason or reason
        self._inbox.end(self._end_reason, discard=discard)
        self._pump.cancel()
        self._drained.set()
        self._on_end()

    async def _drained_to(self, limit: int, *, even_if_closing: bool = False) -> None:
        while self._outgoing_bytes > limit and not self._ended and (even_if_closing or self._closing is None):
            self._drained.clear()
            await self._drained.wait()

    async def _carry(self) -> None:
        """Bring frames to the other end, in order, each when it is due."""
        while True:
            while not self._outgoing:
                self._changed.clear()
                await self._changed.wait()
            due, frame = self._outgoing[0]
            if (delay := due - self._loop.time()) > 0:
                await asyncio.sleep(delay)
            await self._wire.passable.wait()
            self._outgoing.popleft()
            self._outgoing_bytes -= len(frame)
            self._drained.set()
            if self.other_end is not None:
                self.other_end.arrive(frame)

    def arrive(self, frame: bytes) -> None:
        """Take in a frame of the other end."""
        if self._inbox.put(frame):
            self.received_bytes += len(frame)
        elif not self._ended:
            self.end("more received bytes wait to be processed than allowed", discard=True)
            if self.other_end is not None:
                self.other_end.end("the other side closed the connection")


def connection_pair(
    one: RemotePeer, other: RemotePeer, wire: Wire, on_end: Callable[[], None]
) -> tuple[MemoryConnection, MemoryConnection]:
    """Return the two ends of a new connection: the one that ``one`` holds and the one that ``other`` holds.

    Args:
        on_end: called when an end has ended (once for each).
    """
    of_one, of_other = MemoryConnection(other, wire, on_end), MemoryConnection(one, wire, on_end)
    of_one.other_end, of_other.other_end = of_other, of_one
    return of_one, of_other


__all__ = ["HIGH_WATER_BYTES", "LOW_WATER_BYTES", "MemoryConnection", "Wire", "connection_pair"]
