"""The worker's one database thread: every query of a worker runs there, one after another, on one held connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from django.db import Error, connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.vendors import vendor_of

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseThread:
    """Runs functions in the database thread, and tells the loop which models have changed after each.

    Args:
        on_changed: called in the loop with the labels of models that got new versions.
    """

    def __init__(self, on_changed: Callable[[set[str]], None]) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="p2p-database")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="p2p-reading")
        self._on_changed = on_changed
        self.database: ReplicaDatabase | None = None
        #: The thread's connection, of which others are copies.
        self._connection: BaseDatabaseWrapper | None = None

    async def open(self, make: Callable[[], ReplicaDatabase]) -> ReplicaDatabase:
        """Open the replica's database inside the thread."""
        database = self.database = await self.run(make)
        self._connection = await self.run(lambda: connections[database.alias])
        return database

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in the thread and return its result."""
        loop = asyncio.get_running_loop()

        def call() -> T:
            try:
                return function(*args, **kwargs)
            except Error:
                close_dead_connections()
                raise
            finally:
                reset_queries()  # With DEBUG on, the query log would grow for ever.
                # Told from here, not by the caller, who may have been cancelled meanwhile.
                if self.database is not None and (changed := self.database.take_changed()):
                    loop.call_soon_threadsafe(self._on_changed, changed)
                if self.database is not None:
                    self.database.arrivals.tell()

        return await loop.run_in_executor(self._executor, call)

    async def read(
        self, function: Callable[Concatenate[threading.Event, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function that reads for long in a second thread, so that the first one is free meanwhile.

        The function gets an event that is set when nobody waits for it any more, and a connection that is made for it.
        """
        source, stop = self._connection, threading.Event()
        assert source is not None
        alias = source.alias

        def call() -> T:
            connections[alias] = source.copy(alias)
            try:
                connections[alias].ensure_connection()
                vendor_of(connections[alias]).prepare(connections[alias])
                return function(stop, *args, **kwargs)
            finally:
                connections[alias].close()
                del connections[alias]

        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, call)
        finally:
            stop.set()

    async def close(self) -> None:
        """Close the thread's connections and end it. Work that has begun is finished first."""
        self._reader.shutdown(wait=False, cancel_futures=True)
        await asyncio.get_running_loop().run_in_executor(self._executor, connections.close_all)
        self._executor.shutdown(wait=True)


def close_dead_connections() -> None:
    """Close connections that the server has given up: the next work opens them anew."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block and connection.connection is not None and not connection.is_usable():
            connection.close()
