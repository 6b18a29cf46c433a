"""Names of server processes, and whether one on this host still lives.

A name is ``<host>.<pid>.<start of the process>.<random>``. It lets a restarted server see at once that the rows of its
killed predecessor are dead, where others have to wait until these stop beating.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
import socket
from pathlib import Path


def new_server_name() -> str:
    """A name for this process, at most 64 characters; each call gives another one."""
    pid = os.getpid()
    state_and_start = _state_and_start(pid)
    started = state_and_start[1] if state_and_start else 0
    return f"{_host()}.{pid}.{started}.{secrets.token_hex(4)}"


def is_dead(name: str) -> bool:
    """True only if that server process certainly is gone: it ran on this host, and no such process does now."""
    try:
        host, pid_text, started, _ = name.split(".")
        pid = int(pid_text)
    except ValueError:
        return False
    if host != _host() or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False  # somebody else's process: it lives, and the start below cannot be compared reliably
    now = _state_and_start(pid)
    if now is None:
        return False
    return now[0] in "ZX" or (started != "0" and str(now[1]) != started)


@functools.cache
def _host() -> str:
    """This host, this boot and this container: process ids mean something only within all three."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _state_and_start(pid: int) -> tuple[str, int] | None:
    """A process's state letter and its start in clock ticks since boot; None where the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        values = stat.rpartition(")")[2].split()  # the command's name, in parentheses, may contain anything
        return values[0], int(values[19])
    except (OSError, ValueError, IndexError):
        return None
