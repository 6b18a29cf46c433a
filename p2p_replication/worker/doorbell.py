"""The doorbell: a Channels consumer on ``p2p-sync`` that tells the supervisor to look at its pools now."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from asgiref.sync import async_to_sync
from channels.consumer import AsyncConsumer
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.core.exceptions import ImproperlyConfigured

from p2p_replication.models.doorbell import DOORBELL_CHANNEL
from p2p_replication.worker.supervisor import PoolSupervisor

logger = logging.getLogger("p2p_replication.worker")

_started: set[asyncio.Task[None]] = set()


class DoorbellConsumer(AsyncConsumer):  # type: ignore[misc]
    """Rings at the supervisor of this process; under Django Channels' own ``runworker`` it starts one."""

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Any:
        if "runworker" in sys.argv and isinstance(get_channel_layer(), InMemoryChannelLayer):
            raise ImproperlyConfigured(
                "runworker can't hear anything on the in-memory channel layer, as no other process can send to it. "
                "Use python manage.py runp2psync, which needs no channel layer, or configure channels_redis."
            )
        if "runworker" in sys.argv:
            # A consumer comes to life with the first message: the pools declared so far must not wait for one.
            async_to_sync(get_channel_layer().send)(DOORBELL_CHANNEL, {"type": "pools.changed"})
        return super().as_asgi(**initkwargs)

    async def pools_changed(self, message: dict[str, Any]) -> None:
        if PoolSupervisor.current is None:
            task = asyncio.create_task(PoolSupervisor().run(), name="p2p-supervisor")
            _started.add(task)
            task.add_done_callback(_ended)
        else:
            PoolSupervisor.current.ring()


def _ended(task: asyncio.Task[None]) -> None:
    _started.discard(task)
    if not task.cancelled() and task.exception() is not None:
        logger.error("the pool supervisor has failed", exc_info=task.exception())
