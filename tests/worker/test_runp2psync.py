"""The worker as a process: what it shows, how it ends, and who takes over when it does not."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.nodes import until
from tests.worker.worker_processes import LonelyNode, Terminal


@pytest.fixture
def lonely(new_file: Callable[[str], Path]) -> Iterator[Callable[..., LonelyNode]]:
    nodes: list[LonelyNode] = []

    def make(name: str, path: Path | None = None, *, declared: bool = True, **options: Any) -> LonelyNode:
        node = LonelyNode(name, path or new_file(name), **options)
        nodes.append(node)
        if declared:
            node.declare()
        return node

    yield make
    for node in nodes:
        node.kill()


def holder(node: LonelyNode) -> str:
    return str(node.sql("SELECT lease_holder FROM p2p_replication_pool")[0][0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_cleanly_with_code_0_and_the_lease_is_given_back(
    lonely: Callable[..., LonelyNode], number: signal.Signals
) -> None:
    node = lonely("a")
    node.sql(
        "INSERT INTO p2p_replication_peer (pool_id, replica_id, state, public_key, name, user, rows_in, rows_out, "
        "bytes_in, bytes_out, rows_behind, in_sync, last_error) "
        "VALUES (1, 'x', 'connected', '', '', '', 0, 0, 0, 0, 0, 1, '')"
    )
    node.start()
    until(lambda: holder(node), "the worker has the lease")
    assert node.stop(number) == 0
    assert node.sql("SELECT lease_holder, lease_until FROM p2p_replication_pool") == [("", None)]
    assert node.sql("SELECT state FROM p2p_replication_peer") == [("gone",)]
    output = node.output()
    assert "pool field-team starts with testapp.Book, testapp.Note, testapp.Shelf" in output
    assert "pool field-team has stopped" in output
    assert "Traceback" not in output
    assert not list(node.path.parent.glob(f"{node.path.name}-wal")), "the last connection was closed in order"


def test_two_impatient_signals_still_end_cleanly(lonely: Callable[..., LonelyNode]) -> None:
    node = lonely("a")
    node.start()
    until(lambda: holder(node), "the worker has the lease")
    assert node.worker is not None
    node.worker.popen.send_signal(signal.SIGINT)
    assert node.stop(signal.SIGINT) == 0
    assert holder(node) == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_signals_without_end_do_not_cut_its_end_short(
    lonely: Callable[..., LonelyNode], number: signal.Signals
) -> None:
    """To the very last moment of the process: some of them arrive while Python itself is on its way out."""
    node = lonely("a")
    node.start()
    until(lambda: holder(node), "the worker has the lease")
    assert node.worker is not None
    process = node.worker.popen
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(number)
        time.sleep(0.0005)
    assert process.returncode == 0, node.output()[-2000:]
    assert holder(node) == ""
    assert "pool field-team has stopped" in node.output()
    assert "Traceback" not in node.output()
    assert not list(node.path.parent.glob(f"{node.path.name}-wal")), "the last connection was closed in order"


def test_without_a_signaling_server_it_says_so_and_posts_nevertheless(lonely: Callable[..., LonelyNode]) -> None:
    node = lonely("a")
    node.start()
    until(lambda: node.sql("SELECT 1 FROM p2p_replication_poolerror"), "the error is shown")
    node.django("from tests.testapp.models import Note; Note.objects.create(title='offline')")
    until(lambda: node.count("p2p_replication_ledgerentry") == 1, "the write is posted")
    assert node.stop() == 0


def test_another_worker_takes_over_after_kill_9(lonely: Callable[..., LonelyNode]) -> None:
    first = lonely("a", LEASE_TTL=3.0)
    first.start()
    dead = until(lambda: holder(first), "the first worker has the lease")
    first.kill()
    second = lonely("a2", first.path, declared=False, LEASE_TTL=3.0)
    second.start()
    until(lambda: holder(second) not in ("", dead), "the second worker has the lease", 15)
    assert second.stop() == 0


def test_on_a_terminal_it_shows_pools_and_ctrl_c_ends_it(lonely: Callable[..., LonelyNode]) -> None:
    terminal = Terminal(lonely("a"))
    try:
        terminal.until(lambda text: "field-team" in text and "rows in" in text, "the pool is shown")
        terminal.press_ctrl_c()
        assert terminal.wait() == 0
        assert "Traceback" not in terminal.shown
        assert not re.search(r"\d\d:\d\d:\d\d,\d+ INFO", terminal.shown), "log lines would tear the display"
    finally:
        terminal.close()


def test_on_a_terminal_it_says_that_nothing_is_declared(lonely: Callable[..., LonelyNode]) -> None:
    terminal = Terminal(lonely("a", declared=False))
    try:
        terminal.until(lambda text: "No pool is declared" in text, "it says what to do")
        terminal.press_ctrl_c()
        assert terminal.wait() == 0
    finally:
        terminal.close()


def test_a_second_worker_on_a_terminal_does_not_say_that_no_pool_is_declared(
    lonely: Callable[..., LonelyNode],
) -> None:
    node = lonely("a")
    node.start()
    until(lambda: holder(node), "the first worker has the lease")
    terminal = Terminal(node)
    try:
        terminal.until(lambda text: "another worker" in text, "it says who serves the pool", 8)
        assert "No pool is declared" not in terminal.shown
    finally:
        terminal.close()


def test_it_ends_with_a_text_where_the_tables_are_missing(tmp_path: Path, lonely: Callable[..., LonelyNode]) -> None:
    node = lonely("empty", tmp_path / "empty.sqlite3", declared=False)
    node.start()
    assert node.worker is not None
    assert node.worker.popen.wait(30) == 1
    assert "migrate" in node.output()
    assert "Traceback" not in node.output()
    assert os.path.exists(node.path)
