"""Frames that have arrived and wait to be received."""

from __future__ import annotations

import asyncio
from collections import deque

from p2p_replication.exceptions import ConnectionClosed

#: A connection whose waiting frames exceed this many bytes is closed. The session's credit window keeps an honest
#: peer far below it; there is no way to make a remote WebRTC stack wait.
MAX_WAITING_BYTES = 64 * 1024 * 1024


class Inbox:
    """A queue of frames with an end: what arrived before the end can still be taken, then ``take`` raises."""

    def __init__(self, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self._frames: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._max_bytes = max_bytes
        self._end_reason: str | None = None
        self.waiting_bytes = 0

    def put(self, frame: bytes) -> bool:
        """Add a frame. Returns False, and keeps nothing, if the limit would be exceeded or the end has come."""
        if self._end_reason is not None or self.waiting_bytes + len(frame) > self._max_bytes:
            return False
        self._frames.append(frame)
        self.waiting_bytes += len(frame)
        self._changed.set()
        return True

    async def take(self) -> bytes:
        """Return the oldest frame, waiting for one if need be. Raises ConnectionClosed after the last."""
        while not self._frames:
            if self._end_reason is not None:
                raise ConnectionClosed(self._end_reason)
            self._changed.clear()
            await self._changed.wait()
        frame = self._frames.popleft()
        self.waiting_bytes -= len(frame)
        return frame

    def end(self, reason: str, *, discard: bool = False) -> None:
        """No frame comes any more; with ``discard`` those that wait are dropped. Only the first reason counts."""
        if discard:
            self._frames.clear()
            self.waiting_bytes = 0
        if self._end_reason is None:
            self._end_reason = reason
        self._changed.set()


__all__ = ["MAX_WAITING_BYTES", "Inbox"]
