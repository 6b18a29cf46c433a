"""Waiting for writes to a file, on Linux: no polling, and nothing lies between a write and its being known."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Set
from pathlib import Path

from inotify_simple import INotify, flags

#: Seconds that the writes to other files are gathered.
OTHERS = 0.001
MASK = flags.MODIFY | flags.CREATE | flags.MOVED_TO | flags.DELETE


class INotifyWatch:
    """Watches files of one folder, whether they are there or not.

    Raises OSError where the system has no watch left.
    """

    def __init__(self, folder: Path, names: Set[str]) -> None:
        self._names = names
        self._inotify = INotify()
        try:
            self._inotify.add_watch(folder, MASK)
            self._ended = os.eventfd(0)
        except OSError:
            self._inotify.close()
            raise
        self._ready = select.poll()
        self._ready.register(self._inotify.fileno(), select.POLLIN)
        self._ready.register(self._ended, select.POLLIN)

    def wait(self, timeout: float) -> bool:
        """Return whether one of the files was written to, or whether ``end`` was called; at once then.

        Raises OSError if the folder is gone.
        """
        deadline = time.monotonic() + timeout
        while True:
            # In milliseconds; others may write to other files of the folder all the time.
            left = max(deadline - time.monotonic(), 0.0)
            found = {descriptor for descriptor, _ in self._ready.poll(math.ceil(left * 1000))}
            if self._ended in found or not found:
                return bool(found)
            events = self._inotify.read(0)
            if any(event.mask & flags.IGNORED for event in events):
                raise OSError("the folder was removed")
            # An overflow of the queue has no name.
            if any(not event.name or event.name in self._names for event in events):
                return True
            if not left:
                return False
            time.sleep(OTHERS)

    def end(self) -> None:
        """Let ``wait`` return, in another thread."""
        os.eventfd_write(self._ended, 1)

    def close(self) -> None:
        self._inotify.close()
        os.close(self._ended)
