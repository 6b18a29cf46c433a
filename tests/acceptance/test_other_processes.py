"""What scripts and web processes see and do beside the worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance.nodes import TOPIC, Node, until
from tests.acceptance.shown import links

pytestmark = pytest.mark.acceptance

HANDLE = f"""
import time
import p2p_replication
from tests.testapp.models import Note
pool = p2p_replication.sync_p2p(Note, {TOPIC!r})
"""
WAIT = (
    HANDLE
    + """
Note.objects.create(title={title!r})
try:
    pool.wait_in_sync(timeout={timeout})
except Exception as error:
    print(type(error).__name__, error)
else:
    print("in sync")
"""
)


@pytest.mark.parametrize("watcher", [True, False], ids=["watcher", "poll"])
def test_a_commit_of_another_process_is_pushed_without_a_channel_layer(
    node: Callable[..., Node], watcher: bool
) -> None:
    a, b = node("a", FILE_WATCHER=watcher), node("b")
    a.start()
    b.start()
    until(lambda: links(a) and links(b), "both are connected")
    until(lambda: not a.sql("SELECT 1 FROM p2p_replication_peer WHERE in_sync = 0"), "in sync")
    for i in range(5):
        a.sql(
            "INSERT INTO testapp_note (id, title, body, stars, updated_at) "
            "VALUES (lower(hex(randomblob(16))), ?, '', 0, '2026-01-01 00:00:00')",
            (f"raw {i}",),
        )
        until(lambda i=i: b.count() == i + 1, f"row {i}")
    assert a.stop() == 0
    assert b.stop() == 0


def test_wait_in_sync_waits_for_the_peers_and_says_what_is_missing(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    a.start()
    b.start()
    until(lambda: links(a) and links(b), "both are connected")
    for i in range(3):
        assert a.django(WAIT.format(title=f"n{i}", timeout=20)).strip() == "in sync"
        assert b.count() == i + 1, "in sync means: the peer has it"
    assert b.stop() == 0
    until(lambda: not links(a), "b has left")
    said = a.django(WAIT.format(title="alone", timeout=1.5)).strip()
    assert said.startswith("NotInSync Not in sync after 1.5 s:")
    assert "0 of 1 peers are connected" in said
    assert a.stop() == 0
    said = a.django(WAIT.format(title="nobody works", timeout=5)).strip()
    assert said.startswith("WorkerNotRunning")
    assert "runp2psync" in said


def test_wait_in_sync_right_after_the_first_declaration_waits_for_the_worker(node: Callable[..., Node]) -> None:
    """The worker runs and needs a moment to see the new pool: that is no missing worker."""
    a, b = node("a", declared=False), node("b")
    a.start()
    b.start()
    until(lambda: "start " in a.log.read_text(), "a's worker is up")
    assert a.django(WAIT.format(title="first", timeout=20)).strip() == "in sync"
    assert b.count() == 1


def test_wait_in_sync_outlasts_a_restart_of_the_pool(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    a.start()
    b.start()
    until(lambda: links(a) and links(b), "both are connected")
    restart = WAIT.replace("try:", "pool.restart(); time.sleep({pause})\ntry:")
    for pause in (0.0, 0.3, 1.1):
        assert a.django(restart.format(title=f"after {pause}", timeout=20, pause=pause)).strip() == "in sync"
