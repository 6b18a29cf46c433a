"""A process of a peer that takes commands as JSON lines and answers each with one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class CommandProcess:
    """Runs a program that reads ``{"command": ..., ...}`` and writes ``{"result": ...}`` or ``{"error": ...}``."""

    def __init__(self, command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.popen = subprocess.Popen(
            [*map(str, command)], cwd=folder, env=dict(env) if env is not None else None,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def begin(self, command: str, **arguments: Any) -> None:
        """Send a command, without waiting for its answer."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self.popen.stdin.flush()

    def answer(self) -> Any:
        """Wait for the answer of the oldest command that has none yet. Raises RuntimeError if it is an error."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.popen.args} has ended ({self.popen.wait()})")
        found = json.loads(line)
        if "error" in found:
            raise RuntimeError(f"{self.popen.args}: {found['error']}")
        return found["result"]

    def ask(self, command: str, **arguments: Any) -> Any:
        """Send a command and return its answer."""
        self.begin(command, **arguments)
        return self.answer()

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()
