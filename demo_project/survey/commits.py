"""Noticing commits of any process to this node's database, while somebody wants to know.

SQLite tells by ``PRAGMA data_version``, which means something only on one connection that stays open and in
one thread. So there is one thread per process, which lives while at least one page is open.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)


class CommitWatcher:
    """Calls its listeners, on a thread of its own, soon after something was committed.

    Args:
        database: the SQLite file; it has to exist by the first ``listen()``.
        interval: seconds between two looks.
    """

    def __init__(self, database: Path, interval: float) -> None:
        self._database = database
        self._interval = interval
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._running = False

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after commits from now on; it must be quick. Returns a function that ends this."""
        with self._lock:
            self._listeners.append(listener)
            if not self._running:
                self._running = True
                threading.Thread(target=self._watch, name="commit-watcher", daemon=True).start()

        def stop() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return stop

    @property
    def is_running(self) -> bool:
        return self._running

    def _watch(self) -> None:
        connection: sqlite3.Connection | None = None
        seen: int | None = None
        while True:
            with self._lock:
                listeners = list(self._listeners)
                if not listeners:
                    self._running = False
                    break
            try:
                if connection is None:
                    connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=5)
                (version,) = connection.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error as error:
                logger.warning("Can't watch %s for commits (%s); trying again.", self._database, error)
                connection, seen = None, None
                time.sleep(1)
                continue
            if seen is not None and version != seen:
                for listener in listeners:
                    listener()
            seen = version
            time.sleep(self._interval)
        if connection is not None:
            connection.close()
