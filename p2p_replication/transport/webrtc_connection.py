"""One open data channel to a remote peer, as a ``Connection``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiortc import RTCDataChannel, RTCPeerConnection

from p2p_replication.exceptions import ConnectionClosed
from p2p_replication.transport.aiortc_internals import unacknowledged_bytes, unassembled_bytes
from p2p_replication.transport.base import MAX_FRAME_BYTES, Connection, RemotePeer, checked_frame
from p2p_replication.transport.beats import next_beat
from p2p_replication.transport.inbox import MAX_WAITING_BYTES, Inbox

#: ``send`` waits when this many bytes are on their way, and goes on when so many are left.
HIGH_WATER_BYTES = 256 * 1024
LOW_WATER_BYTES = 64 * 1024

#: How long ``close`` waits until what was sent has been acknowledged, in seconds.
FLUSH_TIMEOUT = 2.0

#: aiortc does not tell of acknowledgements: whoever waits for them looks after 2 ms first, every 32 ms later on.
_SHORTEST_LOOK = 0.002
_LONGEST_LOOK = 0.032

#: Received bytes of unfinished messages: more than what any peer that respects the receive window can cause.
MAX_UNASSEMBLED_BYTES = 2 * 1024 * 1024
_UNASSEMBLED_CHECK_BEATS = 2


class WebRTCConnection(Connection):
    """Frames over one ordered, reliable, open data channel. Owns its ``RTCPeerConnection`` and closes it."""

    def __init__(
        self,
        peer_connection: RTCPeerConnection,
        channel: RTCDataChannel,
        remote: RemotePeer,
        *,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self.remote = remote
        self._pc = peer_connection
        self._channel = channel
        self._inbox = Inbox(max_waiting_bytes)
        self._sending = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._closing: asyncio.Task[None] | None = None
        self._ended = False
        self._end_reason = ""
        self._on_end: list[Callable[[], None]] = []
        self._on_release: list[Callable[[], None]] = []
        self._unassembled_check: asyncio.TimerHandle | None = None
        channel.on("message", self._message_received)
        channel.on("close", self._closed_by_other_side)
        peer_connection.on("connectionstatechange", self._state_changed)
        self._check_unassembled()

    @property
    def is_open(self) -> bool:
        return not self._ended and self._closing is None and self._channel.readyState == "open"

    @property
    def buffered_bytes(self) -> int:
        return unacknowledged_bytes(self._channel)

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the connection has ended (at once, if it has)."""
        if self._ended:
            callback()
        else:
            self._on_end.append(callback)

    def when_released(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the connection has ended and left nothing behind (call this before that)."""
        self._on_release.append(callback)

    async def send(self, frame: bytes) -> None:
        data = checked_frame(frame)
        async with self._sending:
            if self.buffered_bytes >= HIGH_WATER_BYTES:
                await self._drained_to(LOW_WATER_BYTES)
            if not self.is_open:
                raise ConnectionClosed(self._end_reason)
            self._channel.send(data)
            self.sent_bytes += len(data)

    async def receive(self) -> bytes:
        return await self._inbox.take()

    async def close(self, reason: str = "") -> None:
        if self._closing is None:
            self._end_reason = self._end_reason or reason or "closed by this side"
            self._closing = self._loop.create_task(self._flush_and_close())
        # the closing goes on if the caller is cancelled
        await asyncio.shield(self._closing)

    async def _flush_and_close(self) -> None:
        if not self._ended and self._channel.readyState == "open":
            try:
                async with asyncio.timeout(FLUSH_TIMEOUT):
                    await self._drained_to(0, even_if_closing=True)
            except TimeoutError:
                pass
        self._end(self._end_reason, discard=True)
        await self._pc.close()
        for callback in self._on_release:
            callback()
        self._on_release.clear()

    async def _drained_to(self, limit: int, *, even_if_closing: bool = False) -> None:
        """Wait until at most ``limit`` bytes are unacknowledged, or the connection has ended."""
        look = _SHORTEST_LOOK
        while (
            self.buffered_bytes > limit
            and self._channel.readyState == "open"
            and (even_if_closing or self._closing is None)
        ):
            await asyncio.sleep(look)
            look = min(look * 2, _LONGEST_LOOK)

    def _end(self, reason: str, *, discard: bool = False) -> None:
        if self._ended:
            return
        self._ended = True
        self._end_reason = self._end_reason or reason
        if self._unassembled_check is not None:
            self._unassembled_check.cancel()
        self._inbox.end(self._end_reason, discard=discard)
        for callback in self._on_end:
            callback()
        self._on_end.clear()

    # Handlers of aiortc's events: they must neither raise nor return anything.

    def _message_received(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._abandon("the other side sent a text frame, but this connection carries binary frames only")
        elif len(message) > MAX_FRAME_BYTES:
            self._abandon(f"the other side sent a frame of {len(message)} bytes, the limit is {MAX_FRAME_BYTES}")
        elif self._inbox.put(message):
            self.received_bytes += len(message)
        else:
            self._abandon(f"more received bytes wait to be processed than allowed ({MAX_WAITING_BYTES})")

    def _closed_by_other_side(self) -> None:
        self._end("the other side closed the connection")
        self._release()

    def _state_changed(self) -> None:
        if self._pc.connectionState in ("failed", "closed"):
            self._end("the connection was lost")
            self._release()

    def _check_unassembled(self) -> None:
        if unassembled_bytes(self._channel.transport) > MAX_UNASSEMBLED_BYTES:
            self._abandon("the other side sends a message that does not end")
        else:
            self._unassembled_check = self._loop.call_at(
                next_beat(self._loop, _UNASSEMBLED_CHECK_BEATS), self._check_unassembled
            )

    def _abandon(self, reason: str) -> None:
        """End a connection whose other side misbehaves, without waiting for anything."""
        self._end(reason, discard=True)
        self._release()

    def _release(self) -> None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._flush_and_close())


__all__ = [
    "FLUSH_TIMEOUT",
    "HIGH_WATER_BYTES",
    "LOW_WATER_BYTES",
    "MAX_UNASSEMBLED_BYTES",
    "WebRTCConnection",
]
