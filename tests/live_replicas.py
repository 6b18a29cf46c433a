"""Running replicas in one process: each a real supervisor on a SQLite file of its own, joined over memory links.

Django's connections belong to threads. Every replica has two threads of its own, the worker's and the application's,
in which the alias ``default`` means this replica's file.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from django.apps import apps
from django.db import connections
from django.db.utils import load_backend

import p2p_replication
from p2p_replication.models import EntryStatus, LedgerEntry, Peer, PoolError
from p2p_replication.pool.live_pool import LivePool
from p2p_replication.pool.replicator import Replicator
from p2p_replication.registry import registry
from p2p_replication.storage.link_table import table_of
from p2p_replication.worker.supervisor import PoolSupervisor
from tests.databases import Database, SQLiteFile

T = TypeVar("T")
TOPIC = "field-team"
LABELS = ("testapp.Shelf", "testapp.Book", "testapp.Note")


def use_database(database: Database) -> None:
    """Let ``default`` mean this database in the calling thread."""
    options = connections.configure_settings({"default": database.settings()})["default"]
    connections["default"] = load_backend(options["ENGINE"]).DatabaseWrapper(options, "default")


async def until(condition: Callable[[], Any], what: str, timeout: float = 20.0) -> Any:
    """Wait until a condition holds and return its value. The condition may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.03)
    raise AssertionError(f"{what}: not within {timeout:g} s")


class LiveReplica:
    """A replica with a worker that can be started and stopped, and an application that writes beside it."""

    def __init__(self, name: str, site: Database) -> None:
        self.name = name
        self.site = site
        self.supervisor: PoolSupervisor | None = None
        self._task: asyncio.Task[None] | None = None
        self._application = ThreadPoolExecutor(1, thread_name_prefix=f"application-{name}")
        self._application.submit(use_database, site).result()

    @property
    def path(self) -> Path:
        """The file of a replica on SQLite."""
        assert isinstance(self.site, SQLiteFile)
        return self.site.path

    # -- the worker --------------------------------------------------------------------------------------------------

    async def start(self, *labels: str, declared: bool = True, **options: Any) -> None:
        """Start the worker; ``labels`` (all, if none are given) are declared with ``options`` before."""
        if declared:
            await self.do(declare, labels or LABELS, options)
        self.supervisor = PoolSupervisor()
        await self.supervisor.thread.run(use_database, self.site)
        self._task = asyncio.create_task(self.supervisor.run())
        ready = asyncio.create_task(self.supervisor.ready.wait())
        await asyncio.wait({ready, self._task}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            failed, self._task = self._task, None
            failed.result()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._task = self.supervisor = None

    async def close(self) -> None:
        await self.stop()
        self._application.submit(connections.close_all).result()
        self._application.shutdown()

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def pool(self) -> LivePool:
        """The one pool that runs."""
        assert self.supervisor is not None
        (running,) = self.supervisor.running.values()
        return running.pool

    @property
    def replica_id(self) -> str:
        assert self.supervisor is not None
        return self.supervisor.database.replica_id

    @property
    def links(self) -> list[Replicator]:
        """The open sessions."""
        if self.supervisor is None:
            return []
        pools = [running.pool for running in self.supervisor.running.values()]
        return [link for pool in pools for link in pool.replicators if link.is_open]

    def traffic(self) -> tuple[int, int]:
        """Return the rows that came in and went out over the links that are open."""
        models = [link for session in self.links for link in session.session.links.values()]
        return sum(link.rows_in for link in models), sum(link.rows_out for link in models)

    # -- the application -----------------------------------------------------------------------------------------------

    async def do(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a function as the application does: in a thread and on a connection of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._application, lambda: function(*args, **kwargs))

    def create(self, label: str = "testapp.Note", **fields: Any) -> Coroutine[Any, Any, Any]:
        return self.do(apps.get_model(label).objects.create, **fields)

    def sql(self, statement: str, *params: Any) -> Coroutine[Any, Any, list[Any]]:
        def run() -> list[Any]:
            with connections["default"].cursor() as cursor:
                cursor.execute(statement, params)
                return list(cursor.fetchall()) if cursor.description else []

        return self.do(run)

    def count(self, label: str = "testapp.Note", **lookups: Any) -> Coroutine[Any, Any, int]:
        return self.do(lambda: apps.get_model(label).objects.filter(**lookups).count())

    async def rows(self) -> dict[str, list[Any]]:
        """Return all rows in canonical form, which is the same on every database."""
        return await self.do(lambda: {label: canonical_rows(label) for label in LABELS})

    async def parked(self) -> int:
        return await self.do(lambda: LedgerEntry.objects.filter(status=EntryStatus.PARKED).count())

    async def errors(self) -> list[str]:
        return await self.do(lambda: list(PoolError.objects.values_list("text", flat=True)))

    async def peers(self) -> dict[str, Peer]:
        """Return what the database shows of the peers, by replica id."""
        return await self.do(lambda: {p.replica_id: p for p in Peer.objects.select_related("pool")})


def canonical_rows(label: str) -> list[str]:
    options = registry.get(label)
    assert options is not None
    table = table_of(connections["default"], options)
    with connections["default"].cursor() as cursor:
        cursor.execute(f"SELECT {table.key_text('t')} FROM {table.name} t", [])
        keys = [str(key) for (key,) in cursor.fetchall()]
    return sorted(repr((table.key_to_wire(key), row)) for key, row in table.read(keys).items())


def table(label: str) -> str:
    return apps.get_model(label)._meta.db_table


def declare(labels: tuple[str, ...], options: dict[str, Any]) -> None:
    for label in labels:
        p2p_replication.sync_p2p(apps.get_model(label), TOPIC, **options)


async def linked(*replicas: LiveReplica) -> None:
    """Wait until each replica has one open session with every other."""

    def all_linked() -> bool:
        wanted = {replica: {r.replica_id for r in replicas if r is not replica} for replica in replicas}
        return all(sorted(link.peer_id for link in r.links) == sorted(ids) for r, ids in wanted.items())

    await until(all_linked, "everybody is linked with everybody")


async def equal(*replicas: LiveReplica, timeout: float = 20.0) -> None:
    """Wait until all replicas hold the same rows."""

    async def same() -> bool:
        first, *others = [await replica.rows() for replica in replicas]
        return all(rows == first for rows in others)

    await until(same, f"{', '.join(r.name for r in replicas)} hold the same rows", timeout)
