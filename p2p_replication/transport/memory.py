"""``MemoryHandler``: peers of one process and one event loop meet without a network. For tests, of users as well."""

from __future__ import annotations

import asyncio

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.transport.base import Connection, ConnectionHandler, HandlerConfig, OnConnection, RemotePeer
from p2p_replication.transport.memory_hub import MemoryHub, default_hub


class MemoryHandler(ConnectionHandler):
    """Connections inside one process, in order and reliable.

    ``OPTIONS``: ``{"HUB": MemoryHub(...)}`` for a meeting place of one's own, whose methods cut, delay and partition;
    by default all members of the running event loop meet in ``default_hub()``.
    """

    def __init__(self, config: HandlerConfig) -> None:
        super().__init__(config)
        self._stop = asyncio.Event()
        self._running: asyncio.Event | None = None

    async def run(self, on_connection: OnConnection) -> None:
        if self._running is not None:
            raise RuntimeError("run() of a connection handler can be called only once")
        stopped = self._running = asyncio.Event()
        try:
            await self._serve(on_connection)
        finally:
            stopped.set()

    async def close(self) -> None:
        self._stop.set()
        if self._running is not None:
            await self._running.wait()

    async def _serve(self, on_connection: OnConnection) -> None:
        hub = self._hub()

        async def hand_over(connection: Connection) -> None:
            try:
                await on_connection(connection)
            except Exception as error:
                self.config.report(f"Peer {connection.remote.name!r}: the new connection was refused: {error!r}.")
                await connection.close("refused")

        remote = RemotePeer(peer_id="", instance=self.config.instance, name=self.config.name)
        member = hub.join(self.config.topic, remote, hand_over)
        try:
            await self._stop.wait()
        finally:
            await hub.leave(member)

    def _hub(self) -> MemoryHub:
        options = dict(self.config.options)
        hub = options.pop("HUB", None)
        if options or not isinstance(hub, MemoryHub | None):
            raise ConfigurationError(
                f"MemoryHandler has one option, HUB, a MemoryHub; not {dict(self.config.options)!r}"
            )
        return hub or default_hub()


__all__ = ["MemoryHandler", "MemoryHub"]
