"""Learning that another process has committed, with the file watcher and by polling alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from p2p_replication.worker.wakeups_sqlite import SQLiteWakeups
from tests.live_replicas import until

WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=20)
connection.execute("INSERT INTO t VALUES (1)")
connection.commit()
"""


class Bell:
    def __init__(self) -> None:
        self.rings = 0

    def __call__(self) -> None:
        self.rings += 1


def database(path: Path, journal: str = "wal") -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("CREATE TABLE t (x)")
    return path


@asynccontextmanager
async def watching(path: Path, *, watch: bool, poll: float = 0.02, poll_watched: float = 60.0) -> AsyncIterator[Bell]:
    """With ``watch``, nothing but the file watcher can ring in time, else nothing but the poll."""
    bell = Bell()
    wakeups = SQLiteWakeups(str(path), bell, poll=poll, poll_watched=poll_watched, watch=watch)
    task = asyncio.create_task(wakeups.run())
    try:
        await asyncio.sleep(0.4)  # The first poll and the watcher's own start may ring.
        bell.rings = 0
        yield bell
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def commit_elsewhere(path: Path) -> None:
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", WRITE, str(path)], check=True, timeout=20)


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("watch", [True, False], ids=["watcher", "poll"])
async def test_another_process_commit_rings(tmp_path: Path, watch: bool, journal: str) -> None:
    path = database(tmp_path / "db.sqlite3", journal)
    async with watching(path, watch=watch) as bell:
        for _ in range(3):
            bell.rings = 0
            await commit_elsewhere(path)
            await until(lambda: bell.rings, "the bell rings", 5)


@pytest.mark.parametrize("watch", [True, False], ids=["watcher", "poll"])
async def test_nothing_rings_at_rest_or_while_others_only_read(tmp_path: Path, watch: bool) -> None:
    path = database(tmp_path / "db.sqlite3")
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT * FROM t").fetchall()  # The first one makes the write-ahead log's file.
        async with watching(path, watch=watch, poll_watched=0.02) as bell:
            for _ in range(10):
                reader.execute("SELECT * FROM t").fetchall()
                (tmp_path / "other file").write_text("x")
                await asyncio.sleep(0.05)
            assert bell.rings == 0


async def test_a_commit_behind_a_lock_rings_when_it_comes(tmp_path: Path) -> None:
    path = database(tmp_path / "db.sqlite3", "delete")
    async with watching(path, watch=False) as bell:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            other.execute("INSERT INTO t VALUES (1)")
            await asyncio.sleep(1.5)  # Longer than the poll's own patience.
            bell.rings = 0
            other.execute("COMMIT")
        await until(lambda: bell.rings, "the bell rings", 5)


@pytest.mark.parametrize("watch", [True, False], ids=["watcher", "poll"])
async def test_a_file_that_was_replaced_is_followed(tmp_path: Path, watch: bool) -> None:
    """A restored backup takes the place of the file: its arrival rings, and so do commits to it."""
    path, backup = database(tmp_path / "db.sqlite3", "delete"), tmp_path / "backup.sqlite3"
    shutil.copy(path, backup)
    async with watching(path, watch=watch) as bell:
        os.replace(backup, path)
        await until(lambda: bell.rings, "the arrival rings", 5)
        await asyncio.sleep(0.2)
        bell.rings = 0
        await commit_elsewhere(path)
        await until(lambda: bell.rings, "a commit to the new file rings", 5)


@pytest.mark.parametrize("name", ["with space.sqlite3", "per%20cent.sqlite3", "hash#tag.sqlite3", "what?.sqlite3"])
async def test_odd_file_names_are_polled(tmp_path: Path, name: str) -> None:
    path = database(tmp_path / name)
    async with watching(path, watch=False) as bell:
        await commit_elsewhere(path)
        await until(lambda: bell.rings, "the bell rings", 5)


@pytest.mark.parametrize("watch", [True, False], ids=["watcher", "poll"])
async def test_no_thread_is_left_behind(tmp_path: Path, watch: bool) -> None:
    path = database(tmp_path / "db.sqlite3")
    async with watching(path, watch=watch):
        assert any(thread.name == "p2p-poll" for thread in threading.enumerate())
    await until(lambda: not any(t.name == "p2p-poll" for t in threading.enumerate()), "the polling thread ends", 5)


async def test_a_database_behind_a_symbolic_link_is_watched_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = database(tmp_path / "real" / "db.sqlite3")
    link = tmp_path / "link.sqlite3"
    link.symlink_to(path)
    async with watching(link, watch=True) as bell:
        await asyncio.sleep(1.2)  # Nothing is looked at any more but when something is written.
        bell.rings = 0
        await commit_elsewhere(link)
        await until(lambda: bell.rings, "the bell rings", 5)


async def test_a_folder_that_is_removed_is_polled(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = database(folder / "db.sqlite3")
    async with watching(path, watch=True) as bell:
        shutil.rmtree(folder)
        folder.mkdir()
        await asyncio.sleep(0.5)
        database(path)
        await until(lambda: bell.rings, "the new file rings", 5)
        await asyncio.sleep(0.2)
        bell.rings = 0
        await commit_elsewhere(path)
        await until(lambda: bell.rings, "a commit to it rings", 5)
