"""The demo as a person starts it, and what is needed to look at it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo_project.launcher.node import ROOT
from tests.browser.devtools import CHROMIUM

PLACES = 60
START_TIMEOUT = 60.0


@dataclass
class RunningDemo:
    """Both nodes' sign-in links, and the folder with logs and databases."""

    folder: Path
    link_a: str
    link_b: str


@pytest.fixture
def chromium() -> None:
    """Skip where there is no Chromium, and fail there if everything is required."""
    if CHROMIUM.exists():
        return
    reason = f"{CHROMIUM} is missing: apt-get install chromium"
    if os.environ.get("P2P_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def demo(chromium: None, tmp_path: Path) -> Iterator[RunningDemo]:
    """``python -m demo_project`` in a temporary folder; it stops, cleanly, with the test."""
    folder = tmp_path / "demo"
    options = ["--folder", str(folder), "--port", "0", "--places", str(PLACES)]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "demo_project", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield RunningDemo(folder, *read_links(process))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            output = process.communicate(timeout=30)[0].decode()
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
    assert process.returncode == 0, output
    assert "had to be killed" not in output


def read_links(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Return the links that the demo prints. Raises RuntimeError if it prints none."""
    assert process.stdout is not None
    output = b""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        links = re.findall(rb"Node [AB]\s+(http://\S+)\s", output)
        if len(links) == 2:
            return links[0].decode(), links[1].decode()
        if select.select([process.stdout], [], [], 0.5)[0]:
            read = os.read(process.stdout.fileno(), 65_536)
            if not read:
                break
            output += read
    raise RuntimeError(f"the demo printed no links: {output.decode(errors='replace')}")
