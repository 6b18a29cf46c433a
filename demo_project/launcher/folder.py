"""The folder a demo lives in: one demo at a time, and what a later start needs to know."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import IO, Any

from demo_project.launcher.errors import DemoError
from demo_project.launcher.node import ROOT, Node

DEFAULT_FOLDER = ROOT / ".demo"
#: A folder is only emptied if this file says that it is a demo's.
STATE_FILE = "demo.json"


class Folder:
    """A demo's folder. Holds a lock on it from ``claim()`` to the end of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def claim(self, *, reset: bool = False) -> None:
        """Make the folder this process's own, empty if ``reset``. Raises DemoError if another demo runs in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self._open_lock()
        if not lock_file(lock):
            lock.close()
            raise DemoError(f"A demo runs in {self.path} already. Stop it, or use another folder: --folder PATH")
        self._lock = lock
        if reset:
            self._empty()

    def release(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def is_claimed_by_another(self) -> bool:
        if not self.path.is_dir():
            return False
        with self._open_lock() as lock:
            return not lock_file(lock)

    def nodes(self, ports: tuple[int, int]) -> tuple[Node, Node]:
        """The two nodes at these ports; their keys stay the same, so that sessions outlive a restart."""
        state = self.read_state()
        keys = state.get("secret_keys") or {key: secrets.token_urlsafe(40) for key in "ab"}
        self._write_state({"ports": list(ports), "secret_keys": keys})
        a, b = (
            Node(key, self.path, ports[at], ports[1 - at], signaling_port=ports[0], secret_key=keys[key])
            for at, key in enumerate("ab")
        )
        return a, b

    def read_state(self) -> dict[str, Any]:
        try:
            state = json.loads((self.path / STATE_FILE).read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DemoError(f"{self.path / STATE_FILE} can't be read ({error}). Start anew: --reset") from error
        return state if isinstance(state, dict) else {}

    def _write_state(self, state: dict[str, Any]) -> None:
        # The keys sign sessions: nobody else reads them.
        descriptor = os.open(self.path / STATE_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(state, file)

    def _open_lock(self) -> IO[str]:
        return (self.path / "lock").open("a")

    def _empty(self) -> None:
        there = [entry for entry in self.path.iterdir() if entry.name != "lock"]
        if there and not (self.path / STATE_FILE).exists():
            raise DemoError(
                f"--reset would delete {self.path}, which no demo made: it has no {STATE_FILE}. Delete it by hand."
            )
        for entry in there:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def lock_file(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
