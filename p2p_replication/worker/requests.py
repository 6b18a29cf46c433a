"""Carrying out what commands ask of the worker, beside everything else that it does."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from django.utils import timezone

from p2p_replication.models.worker_request import RequestKind, RequestState, WorkerRequest
from p2p_replication.pool.database_thread import DatabaseThread
from p2p_replication.pool.live_pool import LivePool
from p2p_replication.pool.verification import verify_pool
from p2p_replication.storage.retry import retry_parked
from p2p_replication.worker.loops import heard

logger = logging.getLogger("p2p_replication.worker")

#: Seconds between two looks: what is asked is committed, so the worker hears of it; or it does not, and looks at last.
LOOK = 1.0
LOOK_ANYWAY = 5.0
#: Seconds before its deadline at which a request has to be answered.
MARGIN = 1.0


class RequestServer:
    """Serves requests of one database.

    Args:
        pools: returns the pools that this worker runs now, by number.
        committed: set when something may have been committed.
    """

    def __init__(
        self, thread: DatabaseThread, pools: Callable[[], Mapping[int, LivePool]], committed: asyncio.Event
    ) -> None:
        self._thread = thread
        self._pools = pools
        self._committed = committed
        #: A peer answers one question at a time.
        self._verifying = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until cancelled."""
        assert self._thread.database is not None
        alias = self._thread.database.alias
        self._committed.set()  # Something may have been asked before.
        try:
            while True:
                await asyncio.sleep(LOOK)
                await heard(self._committed, LOOK_ANYWAY)
                for request in await self._thread.run(WorkerRequest.take, alias, set(self._pools())):
                    task = asyncio.create_task(self._serve(request), name="p2p-request")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _serve(self, request: WorkerRequest) -> None:
        try:
            state, results = RequestState.DONE, await self._carry_out(request)
        except Exception as error:
            logger.exception("the request %s failed", request.kind)
            state, results = RequestState.FAILED, {"error": f"{type(error).__name__}: {error}"}
        try:
            await self._thread.run(request.answer, state, results)
        except Exception:
            logger.exception("the request %s could not be answered", request.kind)

    async def _carry_out(self, request: WorkerRequest) -> dict[str, Any]:
        if request.kind == RequestKind.RETRY:
            assert self._thread.database is not None
            return {"ended": await self._thread.run(retry_parked, self._thread.database)}
        async with self._verifying:
            assert request.pool_id is not None
            left = (request.deadline - timezone.now()).total_seconds() - MARGIN
            found = await verify_pool(self._pools()[request.pool_id], max(left, 0.5))
        return {"models": [dataclasses.asdict(verified) for verified in found]}
