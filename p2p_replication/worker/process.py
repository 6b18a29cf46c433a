"""The worker process: a Channels worker that runs the pool supervisor beside its listeners, and stops cleanly."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from channels.layers import InMemoryChannelLayer, get_channel_layer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from channels.worker import Worker

from p2p_replication.models.doorbell import DOORBELL_CHANNEL
from p2p_replication.worker.doorbell import DoorbellConsumer
from p2p_replication.worker.supervisor import PoolSupervisor

logger = logging.getLogger("p2p_replication.worker")

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: A batch makes thousands of objects that live for some milliseconds. With Python's own 700 the collector looks through
#: them again and again, and through all that the modules have: a fifth of a first sync.
COLLECT_AFTER = 20_000

Display = Callable[[PoolSupervisor], Coroutine[Any, Any, None]]


class SyncWorker(Worker):  # type: ignore[misc]
    """Serves the doorbell's channel where the layer is shared, and the pools in any case.

    Unlike its base it ends when any of its parts fails, and runs every ``finally`` on SIGTERM.
    """

    def __init__(self, stats_file: str = "", display: Display | None = None) -> None:
        application = ProtocolTypeRouter({"channel": ChannelNameRouter({DOORBELL_CHANNEL: DoorbellConsumer.as_asgi()})})
        layer = get_channel_layer()
        shared = layer is not None and not isinstance(layer, InMemoryChannelLayer)
        super().__init__(application, [DOORBELL_CHANNEL] if shared else [], layer)
        self._stats_file = stats_file
        self._display = display

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; once it ends, both are ignored for the rest of the process."""
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
        asyncio.run(self.handle())

    async def handle(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Not the loop's own handlers: it would take them back before the process is over.
        for number in ENDING_SIGNALS:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        supervisor = PoolSupervisor(self._stats_file)
        signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(supervisor.write_stats))
        parts: list[Coroutine[Any, Any, None]] = [supervisor.run(), *(self._listen(c) for c in self.channels)]
        if self._display is not None:
            parts.append(self._display(supervisor))
        tasks = [asyncio.create_task(part) for part in parts]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            for number in (*ENDING_SIGNALS, signal.SIGUSR1):
                signal.signal(number, signal.SIG_IGN)
            for task in [*tasks, stopping]:
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)

    async def _listen(self, channel: str) -> None:
        """Listen for the doorbell; a layer that is gone costs a second a ring, no more."""
        while True:
            try:
                await self.listener(channel)
            except Exception as error:
                logger.warning("the channel layer does not answer: %s", error)
                await asyncio.sleep(5)
