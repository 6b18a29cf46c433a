"""Members of a topic, as the transport tests drive them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from p2p_replication.exceptions import ConnectionClosed
from p2p_replication.transport.base import Connection, ConnectionHandler, HandlerConfig, OnConnection

TIMEOUT = 10.0


class RunningMember:
    """A running handler, the connections it handed over and what it reported."""

    def __init__(self, handler: ConnectionHandler, reports: list[str], refuse: OnConnection | None = None) -> None:
        self.handler = handler
        self.reports = reports
        self.connections: list[Connection] = []
        self._refuse = refuse
        self._changed = asyncio.Event()
        self.task = asyncio.create_task(handler.run(self._on_connection))

    async def _on_connection(self, connection: Connection) -> None:
        if self._refuse is not None:
            await self._refuse(connection)
        self.connections.append(connection)
        self._changed.set()

    @property
    def open(self) -> list[Connection]:
        return [connection for connection in self.connections if connection.is_open]

    def open_to(self, instance: str) -> list[Connection]:
        return [connection for connection in self.open if connection.remote.instance == instance]

    async def connection_to(self, instance: str, *, beyond: Connection | None = None) -> Connection:
        """Wait for an open connection to ``instance`` other than ``beyond``."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                for connection in self.open_to(instance):
                    if connection is not beyond:
                        return connection
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.05)

    async def stop(self) -> None:
        await self.handler.close()
        await asyncio.wait_for(self.task, TIMEOUT)


class Members:
    """Starts members and stops them at the end of a test."""

    def __init__(self, handler_class: type[ConnectionHandler]) -> None:
        self.handler_class = handler_class
        self.account: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.running: list[RunningMember] = []

    def start(self, instance: str, *, topic: str = "field-team", **changes: Any) -> RunningMember:
        reports: list[str] = []
        refuse = changes.pop("refuse", None)
        config = HandlerConfig(
            topic=topic,
            instance=instance,
            name=instance.partition(":")[0],
            account=changes.pop("account", self.account),
            options=changes.pop("options", self.options),
            report=reports.append,
            **changes,
        )
        member = RunningMember(self.handler_class(config), reports, refuse)
        self.running.append(member)
        return member

    async def pair(self) -> tuple[Connection, Connection]:
        """Start members a and b, return a's connection to b and b's to a."""
        a, b = self.start("a:1"), self.start("b:1")
        return await a.connection_to("b:1"), await b.connection_to("a:1")

    async def stop(self) -> None:
        for member in self.running:
            await member.handler.close()
        await asyncio.gather(*(member.task for member in self.running), return_exceptions=True)


async def ended(connection: Connection) -> str:
    """Wait for the end of a connection, return the reason."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                await connection.receive()
            except ConnectionClosed as closed:
                return closed.reason


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
