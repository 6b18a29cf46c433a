"""Lets the tests' databases lie in memory where there is room: hundreds of small files are made and synced.

A pytest plugin, loaded by ``addopts`` in setup.cfg; ``--basetemp`` chooses another folder.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
#: Bytes that have to be free.
ROOM = 2 * 1024**3

_made: list[str] = []


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or config.option.basetemp or not MEMORY.is_dir():
        return
    if shutil.disk_usage(MEMORY).free >= ROOM:
        folder = tempfile.mkdtemp(prefix="p2p-tests-", dir=MEMORY)
        _made.append(folder)
        config.option.basetemp = folder


def pytest_unconfigure() -> None:
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)
