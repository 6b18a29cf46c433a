"""The machine: what it is, whether it is at rest, and what processes use of it. From /proc, so for Linux."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
#: Share of a core that may be in use before a run begins, and the seconds over which it is looked at.
AT_REST = 0.15
LOOK = 3.0
LOOKS = 10


class NotAtRest(Exception):
    """Something else uses the machine."""


def described() -> dict[str, Any]:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cores": os.cpu_count(),
        "processor": model.group(1) if model else platform.machine(),
        "memory (GiB)": round(int(memory.group(1)) / 1024**2) if memory else "?",
        "kernel": platform.release(),
    }


def versions(*names: str) -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: version(name) for name in names}}


def check_at_rest() -> None:
    """Wait until the machine has been idle for some seconds. Raises NotAtRest if that does not come."""
    for _ in range(LOOKS):
        busy, began = _busy_seconds(), time.monotonic()
        time.sleep(LOOK)
        share = (_busy_seconds() - busy) / (time.monotonic() - began)
        if share <= AT_REST:
            return
    else:
        raise NotAtRest(
            f"The machine is in use: {share:.0%} of a core over {LOOK:g} s. Figures would mean nothing; end what runs, "
            "or say --busy to measure all the same (nothing is written then)."
        )


def _busy_seconds() -> float:
    user, nice, system, _idle, _wait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return what these processes have used, user and system."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def peak_memory(pid: int) -> float:
    """Return the most that a process has had in memory, in MiB."""
    return _status(pid, "VmHWM")


def memory(pid: int) -> float:
    """Return what a process has in memory now, in MiB."""
    return _status(pid, "VmRSS")


def _status(pid: int, name: str) -> float:
    found = re.search(rf"{name}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) / 1024 if found else 0.0
