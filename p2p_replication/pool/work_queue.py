"""What a replicator has still to do in the database."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from p2p_replication.protocol.work_order import Work, put_in_order


class WorkQueue:
    """Work of one connection, in the order of ``protocol.work_order``.

    Args:
        families: of the models (``protocol.families``).
    """

    def __init__(self, families: Mapping[str, str]) -> None:
        self._families = families
        self._waiting: deque[Work] = deque()
        self._filled = asyncio.Event()

    def put(self, work: Work) -> None:
        put_in_order(self._waiting, work, self._families)
        self._filled.set()

    async def get(self) -> Work:
        """Wait for the next work, and take it out."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        return self._waiting.popleft()
