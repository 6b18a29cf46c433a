from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from p2p_replication.transport.memory import MemoryHub
from tests.databases import Database
from tests.live_replicas import LiveReplica


@pytest.fixture
def hub(settings: Any) -> MemoryHub:
    """The place where the replicas of the test meet."""
    hub = MemoryHub()
    handler = {"BACKEND": "p2p_replication.transport.memory.MemoryHandler", "OPTIONS": {"HUB": hub}}
    settings.P2P_REPLICATION = {"CONNECTION_HANDLERS": {"default": handler}, "FILE_WATCHER": False}
    return hub


@pytest.fixture
async def live(
    hub: MemoryHub, new_database: Callable[[str], Database], django_db_blocker
) -> AsyncIterator[Callable[..., LiveReplica]]:
    """``live(name)``: a replica in this process, its worker not started yet."""
    made: list[LiveReplica] = []

    def make(name: str, site: Database | None = None) -> LiveReplica:
        replica = LiveReplica(name, site or new_database(name))
        made.append(replica)
        return replica

    with django_db_blocker.unblock():
        yield make
        for replica in made:
            await replica.close()
