"""Waiting for writes to a file, on Linux."""

from __future__ import annotations

import threading
from pathlib import Path

from p2p_replication.worker.inotify import INotifyWatch


def test_what_others_write_into_the_folder_does_not_end_the_wait(tmp_path: Path) -> None:
    watch = INotifyWatch(tmp_path, {"mine"})
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.005):
            (tmp_path / "other").write_text("x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert not any(watch.wait(0.1) for _ in range(3))
        (tmp_path / "mine").write_text("x")
        assert watch.wait(5)
    finally:
        stop.set()
        writer.join()
        watch.close()


def test_a_wait_ends_when_it_is_told_to(tmp_path: Path) -> None:
    watch = INotifyWatch(tmp_path, {"mine"})
    watch.end()
    assert watch.wait(60)
    watch.close()
