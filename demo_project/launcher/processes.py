"""Child processes that are always stopped, each with a log of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from demo_project.launcher.errors import DemoError

GUARD = Path(__file__).with_name("guard.py")
#: How long a child may take to stop cleanly, in seconds, before it is killed.
STOP_TIMEOUT = 8.0
LOG_TAIL_LINES = 15


class Child:
    """A running process in a process group of its own. It ends with this process, even if that is killed.

    Start children on the main thread only: the kernel counts the end of the *thread* that started one.

    Args:
        pipes: talk to it by its standard input and output; else its output goes to the log as well.
        serves: it is meant to run until it is stopped, so that any end of its own is a failure.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path,
        pipes: bool = False,
        serves: bool = False,
    ) -> None:
        self.name = name
        self.serves = serves
        self.log = log
        self.stopping = False
        with log.open("ab") as log_file:
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-E", str(GUARD), str(os.getpid()), *command],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else log_file,
                stderr=log_file,
                start_new_session=True,
                text=True,
            )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def ask_to_stop(self) -> None:
        self.stopping = True
        self._signal(signal.SIGTERM)

    def stop(self, timeout: float = STOP_TIMEOUT) -> bool:
        """Stop the process and what it started. Returns whether it stopped cleanly, that is, without being killed."""
        if self.is_running and not self.stopping:
            self.ask_to_stop()
        clean = True
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            clean = False
        # Whatever is left of the group, should the process itself have ended without it.
        self._signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return clean

    def finish(self, timeout: float) -> None:
        """Wait for the process's own end. Raises DemoError if it fails or takes too long."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.stop()
            raise DemoError(f"{self.name} took more than {timeout:g} s.{self.tail()}") from None
        if code != 0:
            raise DemoError(f"{self.name} failed with code {code}.{self.tail()}")

    def require_alive(self) -> None:
        """Raise DemoError, with the end of the log, if the process has ended by itself and should not have."""
        code = self.process.poll()
        if code is not None and not self.stopping and (self.serves or code != 0):
            raise DemoError(f"{self.name} ended with code {self.process.returncode}.{self.tail()}")

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "".join(f"\n    {line}" for line in lines) + f"\nIts log: {self.log}"

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class Children:
    """All children of this process; stops them together."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children)

    def add(self, child: Child) -> Child:
        self._children.append(child)
        return child

    def require_alive(self) -> None:
        for child in self._children:
            child.require_alive()

    def stop(self) -> list[Child]:
        """Stop everything. Returns those that had to be killed."""
        for child in self._children:
            if child.is_running:
                child.ask_to_stop()
        deadline = time.monotonic() + STOP_TIMEOUT
        return [child for child in self._children if not child.stop(max(0.1, deadline - time.monotonic()))]


@contextlib.contextmanager
def stop_signals(raise_: type[BaseException]) -> Iterator[None]:
    """While this holds, the first SIGINT or SIGTERM raises ``raise_`` in the main thread; later ones are ignored,
    so that an impatient second Ctrl-C can't leave processes behind."""

    def handle(number: int, frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise raise_()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
