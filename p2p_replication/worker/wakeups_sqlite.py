"""Wake-ups: learning soon that another process has committed, on SQLite. Correctness never depends on them.

SQLite tells nobody. A file watcher sees the write-ahead log grow; underneath, ``PRAGMA data_version`` on one held
connection is polled: it changes with every commit of another connection, and means something only on the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import watchfiles

logger = logging.getLogger("p2p_replication.worker")

#: watchfiles at its defaults takes 80 ms to tell; with these about 9.
WATCH_STEP_MS = 5
WATCH_DEBOUNCE_MS = 10


class SQLiteWakeups:
    """Calls ``wake`` in the loop soon after any commit to a SQLite file.

    Args:
        poll: seconds between polls while the file is not watched.
        poll_watched: seconds between polls while it is (network disks send no events).
        watch: use the file watcher.
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
        self._watching = False

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed already.
                loop.call_soon_threadsafe(self._wake)

        poller = threading.Thread(target=self._poll_version, args=(wake,), name="p2p-poll", daemon=True)
        poller.start()
        try:
            if self._watch:
                await self._watch_files()
            await asyncio.Event().wait()
        finally:
            self._stop.set()
            await asyncio.to_thread(poller.join, 2)

    async def _watch_files(self) -> None:
        names = {self.path.name, self.path.name + "-wal", self.path.name + "-journal"}
        try:
            self._watching = True
            async for _ in watchfiles.awatch(
                self.path.parent,
                step=WATCH_STEP_MS,
                debounce=WATCH_DEBOUNCE_MS,
                watch_filter=lambda change, path: Path(path).name in names,
                recursive=False,
            ):
                self._wake()
        except Exception as error:
            logger.warning("the file watcher failed, polling every %g s instead: %s", self._poll, error)
        finally:
            self._watching = False

    def _poll_version(self, wake: Callable[[], None]) -> None:
        connection = None
        last = opened = None
        while not self._stop.wait(self._poll_watched if self._watching else self._poll):
            try:
                if connection is None:
                    connection = sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro", uri=True, timeout=1)
                    opened = _identity(self.path)
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                if _identity(self.path) != opened:
                    raise sqlite3.OperationalError("another file has taken the place of the database")
            except sqlite3.Error:
                if connection is not None:
                    connection.close()
                connection = None
                version = None
            if version != last:
                last = version
                wake()
        if connection is not None:
            connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
