"""The pool supervisor: owns the live pools of one worker process, posts what the application commits, and beats."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, ClassVar

from django.db import Error

from p2p_replication.conf import app_settings
from p2p_replication.exceptions import CopiedReplica, StaleReplica
from p2p_replication.models.conflict import Conflict
from p2p_replication.models.pool import PoolError
from p2p_replication.pool.database_thread import DatabaseThread
from p2p_replication.pool.live_pool import LivePool
from p2p_replication.pool.peer_rows import PeerRows
from p2p_replication.storage.declared_merges import keep_merge_states
from p2p_replication.storage.held_fields import adopt_known_fields
from p2p_replication.storage.link_rows import bury_links
from p2p_replication.storage.posting import Posted, post
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.retry import retry_parked
from p2p_replication.transport.beats import until_next_beat
from p2p_replication.worker.leases import release_lease, take_lease
from p2p_replication.worker.loops import heard, run_loops
from p2p_replication.worker.opening import check_migrations, install_capture, open_database, take_new_identity
from p2p_replication.worker.requests import LOOK_ANYWAY, RequestServer
from p2p_replication.worker.setups import WantedPool, declare_registered_pools, stored_pools, wanted_pools
from p2p_replication.worker.traffic import traffic_of, write_traffic
from p2p_replication.worker.wakeups import wakeups_of

logger = logging.getLogger("p2p_replication.worker")

#: Seconds between looks at pools that can't run yet, and after an error of the database.
LOOK = 1.0
#: Seconds between tries of parked rows when nothing has happened that could help them.
RETRY_PARKED = 30.0
#: Seconds between deletes of what is kept no longer.
PRUNE_INTERVAL = 6 * 3600.0


class _Running:
    """A live pool and the task it runs in."""

    def __init__(self, wanted: WantedPool, pool: LivePool) -> None:
        self.fingerprint = wanted.fingerprint
        self.pool = pool
        self.task = asyncio.create_task(pool.run(), name=f"p2p-pool-{wanted.setup.topic}")
        self.told = ""


class PoolSupervisor:
    """Runs every active pool of the database that no other live worker has a lease of."""

    #: The supervisor of this process, for the doorbell.
    current: ClassVar[PoolSupervisor | None] = None

    def __init__(self, stats_file: str = "") -> None:
        self.holder = f"{socket.gethostname()[:40]}:{secrets.token_hex(6)}"
        self.thread = DatabaseThread(self._models_changed)
        self.running: dict[int, _Running] = {}
        self.ready = asyncio.Event()
        self._stats_file = stats_file
        self._wake = asyncio.Event()
        self._look = asyncio.Event()
        self._retry = asyncio.Event()
        #: Something was committed: it may be a request.
        self._committed = asyncio.Event()
        self._stale: asyncio.Queue[StaleReplica] = asyncio.Queue()
        self._stopped_traffic: Counter[str] = Counter()
        #: Pools that can't run, and why, as it was said last.
        self.failed: dict[int, str] = {}
        #: Topics of the pools that another worker has the lease of, by number.
        self.elsewhere: dict[int, str] = {}
        self._stopping: set[asyncio.Future[None]] = set()

    @property
    def database(self) -> ReplicaDatabase:
        assert self.thread.database is not None
        return self.thread.database

    def wake(self) -> None:
        """Another process may have committed something."""
        self._wake.set()

    def ring(self) -> None:
        """Pools have changed."""
        self._look.set()
        self._committed.set()
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled; then say goodbye to the peers and give the leases back.

        Raises StaleReplica if the database was migrated away from what this process' code knows.
        """
        PoolSupervisor.current = self
        try:
            while True:
                await self._open()
                try:
                    await run_loops({f"p2p{loop.__name__}": self._persistently(loop) for loop in self._loops()})
                except StaleReplica as stale:
                    logger.warning("opening the database anew: %s", stale)
                    await self._stop_pools()
                    if isinstance(stale, CopiedReplica):
                        await self.thread.run(take_new_identity, self.database)
        finally:
            PoolSupervisor.current = None
            await self._stop_pools()
            await self.thread.close()
            self.write_stats()

    def _loops(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        loops = [self._post, self._supervise, self._show, self._retry_parked, self._serve_requests, self._prune]
        return [*loops, self._watch, self._heed]

    async def _open(self) -> None:
        await self.thread.run(check_migrations)
        await self.thread.run(install_capture)
        await self.thread.open(open_database)
        self._stale = asyncio.Queue()  # What pools have said of the database that was open before counts no more.
        await self.thread.run(adopt_known_fields, self.database)
        await self.thread.run(keep_merge_states, self.database)
        await self.thread.run(declare_registered_pools)
        logger.info("replica %s, start %s", self.database.replica_id, self.database.start)

    async def _persistently(self, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop through errors of the database: it may be locked, or in the middle of a migration."""
        while True:
            try:
                await loop()
            except Error as error:
                logger.warning("the database does not answer as it should: %s", error)
                await asyncio.sleep(LOOK)

    # -- loops -----------------------------------------------------------------------------------------------------

    async def _prune(self) -> None:
        while True:
            await self.thread.run(PoolError.prune, app_settings.ERROR_RETENTION)
            await self.thread.run(Conflict.objects.prune, app_settings.CONFLICT_RETENTION)
            await asyncio.sleep(PRUNE_INTERVAL)

    async def _watch(self) -> None:
        # Made in the database's thread: connections belong to threads.
        wakeups = await self.thread.run(lambda: wakeups_of(self.database.connection, self.wake))
        await wakeups.run()

    async def _heed(self) -> None:
        """Raise what a pool has found out about the database."""
        raise await self._stale.get()

    async def _post(self) -> None:
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            posted = Posted(more=True)
            while posted.more:
                posted = await self.thread.run(post, self.database)
            # What was committed may be about pools, or be a request.
            self._look.set()
            self._committed.set()

    async def _supervise(self) -> None:
        renew_at = looked = 0.0
        seen: list[tuple[Any, ...]] | None = None
        while True:
            now = time.monotonic()
            # Here, as nobody hears of another database from a session: those only end, and begin again.
            stored = await self.thread.run(stored_pools, self.database)
            if stored != seen or (not self._is_settled and now - looked >= LOOK):
                looked, seen = now, stored
                await self._look_at_pools()
            if now >= renew_at:
                renew_at = now + app_settings.LEASE_TTL / 3
                await self._renew_leases()
            self.ready.set()
            left = max(renew_at - time.monotonic(), 0.0)
            await heard(self._look, min(left, LOOK_ANYWAY if self._is_settled else LOOK))

    @property
    def _is_settled(self) -> bool:
        """Tell whether every pool that should run here does."""
        return not (self.elsewhere or self.failed or any(running.task.done() for running in self.running.values()))

    async def _look_at_pools(self) -> None:
        wanted, failed = await self.thread.run(wanted_pools, self.database)
        for number, text in failed:
            if self.failed.get(number) != text:
                logger.error("%s", text)
                await self.thread.run(PeerRows(self.database.alias, number).write_error, text)
        self.failed = dict(failed)
        by_id = {pool.id: pool for pool in wanted}
        self.elsewhere = {number: topic for number, topic in self.elsewhere.items() if number in by_id}
        for number, running in list(self.running.items()):
            now = by_id.get(number)
            if now is None or now.fingerprint != running.fingerprint or running.task.done():
                await self._stop(number)
        for pool in wanted:
            if pool.id in self.running:
                continue
            if await self._has_lease(pool.id):
                logger.info("pool %s starts with %s", pool.setup.topic, ", ".join(sorted(pool.setup.parts)))
                setup = replace(pool.setup, on_stale=self._stale.put_nowait)
                self.running[pool.id] = _Running(pool, LivePool(setup, self.thread))
                self.elsewhere.pop(pool.id, None)
                self._committed.set()  # Its requests may be waiting.
            else:
                self.elsewhere[pool.id] = pool.setup.topic

    async def _renew_leases(self) -> None:
        for number, running in list(self.running.items()):
            if not await self._has_lease(number):
                topic = self.elsewhere[number] = running.pool.setup.topic
                logger.warning("another worker has taken the pool %s over", topic)
                await self._stop(number)

    async def _has_lease(self, number: int) -> bool:
        """Take or renew the lease of a pool."""
        return await self.thread.run(take_lease, number, self.holder, app_settings.LEASE_TTL)

    async def _show(self) -> None:
        while True:
            await until_next_beat()
            for running in list(self.running.values()):
                pool = running.pool
                await pool.reporter.write(pool.replicators)
                if pool.state != running.told:
                    running.told = pool.state
                    await self.thread.run(pool.reporter.rows.write_signaling_state, running.told)

    async def _retry_parked(self) -> None:
        while True:
            await heard(self._retry, RETRY_PARKED)
            await self.thread.run(retry_parked, self.database)
            await self.thread.run(bury_links, self.database)
            for running in list(self.running.values()):
                await running.pool.adopt_loose_rows()
                if await running.pool.repairs.step():
                    self._retry.set()
            await asyncio.sleep(0.25)

    async def _serve_requests(self) -> None:
        def pools() -> dict[int, LivePool]:
            return {number: running.pool for number, running in self.running.items()}

        await RequestServer(self.thread, pools, self._committed).run()

    # -- changes -----------------------------------------------------------------------------------------------------

    def _models_changed(self, labels: set[str]) -> None:
        for running in self.running.values():
            running.pool.changed(labels)
        self._retry.set()

    # -- the end -------------------------------------------------------------------------------------------------------

    async def _stop(self, number: int) -> None:
        """Stop a pool; once begun this is finished, even if the worker is told to end meanwhile."""
        stopping = asyncio.ensure_future(self._stop_running(number, self.running.pop(number)))
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)
        await asyncio.shield(stopping)

    async def _stop_running(self, number: int, running: _Running) -> None:
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)
        self._stopped_traffic.update(traffic_of(running.pool))
        # Who has lost the lease has nothing to tell any more: the pool's peers are its successor's.
        if await self._has_lease(number):
            with contextlib.suppress(StaleReplica):
                await running.pool.reporter.write(running.pool.replicators)
            await self.thread.run(release_lease, number, self.holder)
        logger.info("pool %s has stopped", running.pool.setup.topic)

    async def _stop_pools(self) -> None:
        begun = list(self._stopping)
        await asyncio.gather(*(self._stop(number) for number in list(self.running)), *begun, return_exceptions=True)

    def write_stats(self) -> None:
        """Write the traffic since the start into the file that the worker was given for it, if any."""
        if self._stats_file:
            counts = Counter(self._stopped_traffic)
            for running in self.running.values():
                counts.update(traffic_of(running.pool))
            write_traffic(self._stats_file, counts)
