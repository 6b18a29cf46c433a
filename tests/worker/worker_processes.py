"""``runp2psync`` as a process, without a signaling server: for what a worker does on its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.acceptance.nodes import ROOT, Node, Process, environment
from tests.databases import SQLiteFile

COMMAND = ["-m", "django", "runp2psync"]


class LonelyNode(Node):
    """A node whose signaling server nobody has started."""

    def __init__(self, name: str, path: Path, **options: Any) -> None:
        self.name = name
        self.site = SQLiteFile(path)
        self.log, self.stats = path.with_suffix(".log"), path.with_suffix(".stats")
        options = {"NAME": name, **options}
        self.environment = environment(self.site, url="ws://127.0.0.1:9/p2p/signaling/", options=options)
        self.worker: Process | None = None

    def output(self) -> str:
        return self.log.read_text(errors="replace")


class Terminal:
    """The worker on a pseudo-terminal; gathers what it shows."""

    def __init__(self, node: Node) -> None:
        self._reader, other = pty.openpty()
        self.popen = subprocess.Popen(
            [sys.executable, *COMMAND],
            cwd=ROOT,
            env={**node.environment, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            # Ctrl-C becomes a signal only on the terminal that controls the session.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(other)
        self.shown = ""

    def until(self, condition: Callable[[str], Any], what: str, timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition(self.shown):
            assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s; shown: {self.shown[-2000:]}"
            self._read()

    def press_ctrl_c(self) -> None:
        os.write(self._reader, b"\x03")

    def wait(self, timeout: float = 20.0) -> int:
        deadline = time.monotonic() + timeout
        while self.popen.poll() is None and time.monotonic() < deadline:
            self._read()
        return self.popen.wait(1)

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(10)
        os.close(self._reader)

    def _read(self) -> None:
        if select.select([self._reader], [], [], 0.1)[0]:
            try:
                self.shown += os.read(self._reader, 65536).decode(errors="replace")
            except OSError:  # Nobody has the other end open any more.
                time.sleep(0.05)
