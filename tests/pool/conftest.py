from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from p2p_replication.transport.memory import MemoryHub
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
    hub: MemoryHub, new_file: Callable[[str], Path], django_db_blocker
) -> AsyncIterator[Callable[..., LiveReplica]]:
    """``live(name)``: a replica in this process, its worker not started yet."""
    made: list[LiveReplica] = []

    def make(name: str, path: Path | None = None) -> LiveReplica:
        replica = LiveReplica(name, path or new_file(name))
        made.append(replica)
        return replica

    with django_db_blocker.unblock():
        yield make
        for replica in made:
            await replica.close()
