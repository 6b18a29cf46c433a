"""Wake-ups: learning soon that another process has committed, on SQLite. Correctness never depends on them.

SQLite tells nobody. ``PRAGMA data_version`` on one held connection changes with every commit of another connection, and
means something only on the same one. It is looked at when the file or its write-ahead log is written to, as far as the
system says so (inotify, on Linux), and from time to time in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

logger = logging.getLogger("p2p_replication.worker")

#: Seconds between looks once something was written: the commit counts only after the log is on the disk.
AFTER_A_WRITE = (0.0003, 0.0006, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512)
#: Seconds that commits are gathered after one was told: whoever writes on and on is looked at so often.
GATHER = 0.002


class FileWatch(Protocol):
    """Waits until a file is written to."""

    def wait(self, timeout: float) -> bool:
        """Return whether something was written, or whether ``end`` was called; at once then.

        Raises OSError if nothing can be watched any more.
        """

    def end(self) -> None: ...

    def close(self) -> None: ...


class SQLiteWakeups:
    """Calls ``wake`` in the loop soon after any commit to a SQLite file.

    Args:
        poll: seconds between looks while the file is not watched.
        poll_watched: seconds between looks while it is (network disks send no events).
        watch: use the file watcher, where there is one.
    """

    def __init__(
        self, path: str, wake: Callable[[], None], *, poll: float, poll_watched: float, watch: bool = True
    ) -> None:
        self.path = Path(path)
        self._wake = wake
        self._poll = poll
        self._poll_watched = poll_watched
        self._watch = watch
        self._stop = threading.Event()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed already.
                loop.call_soon_threadsafe(self._wake)

        watch = self._new_watch() if self._watch else None
        looking = threading.Thread(target=self._look, args=(watch, wake), name="p2p-poll", daemon=True)
        looking.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._stop.set()
            if watch is not None:
                watch.end()
            await asyncio.to_thread(looking.join, 2)
            if watch is not None and not looking.is_alive():
                watch.close()

    def _new_watch(self) -> FileWatch | None:
        try:
            from p2p_replication.worker.inotify import INotifyWatch

            # SQLite's own files lie beside the real one.
            path = self.path.resolve()
            return INotifyWatch(path.parent, {path.name + end for end in ("", "-wal", "-journal")})
        except (ImportError, OSError) as error:
            logger.info("no file watcher (%s): the database is looked at every %g s", error, self._poll)
            return None

    def _look(self, watch: FileWatch | None, wake: Callable[[], None]) -> None:
        last = None
        pauses = iter(AFTER_A_WRITE)
        while not self._stop.is_set():
            version = self._version()
            if version != last:
                last = version
                wake()
                self._stop.wait(GATHER)
                pauses = iter(AFTER_A_WRITE) if watch is not None else pauses
                continue
            if watch is None:
                self._stop.wait(self._poll)
                continue
            pause = next(pauses, self._poll_watched)
            if pause < GATHER:  # Less than what a file watch can wait.
                self._stop.wait(pause)
                pause = 0.0
            try:
                written = watch.wait(pause)
            except OSError as error:
                logger.info("no file watcher any more (%s): looking every %g s", error, self._poll)
                watch, written = None, True
            if written:
                pauses = iter(AFTER_A_WRITE)
        self._disconnect()

    def _version(self) -> int | None:
        """Return the file's data version; None if it can't be told."""
        try:
            if self._connection is None:
                uri = f"file:{quote(str(self.path))}?mode=ro"
                self._connection = sqlite3.connect(uri, uri=True, timeout=1)
                self._opened = _identity(self.path)
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
            if _identity(self.path) != self._opened:
                raise sqlite3.OperationalError("another file has taken the place of the database")
            return version
        except sqlite3.Error:
            self._disconnect()
            return None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
