"""The WebRTC handler with this package's own signaling server in a real Daphne process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2p_replication.exceptions import SignalingRefused
from p2p_replication.transport.webrtc import WebRTCHandler
from tests.transport.acceptance import received
from tests.transport.members import Members, until

ROOT = Path(__file__).parents[2]


@dataclass
class Site:
    url: str
    token: str


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    environment = os.environ | {
        "P2P_TEST_DB": str(tmp_path / "site.sqlite3"),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    made = subprocess.run(  # noqa: ASYNC221 - nothing else runs yet
        [sys.executable, "-m", "tests.transport.daphne_site"],
        capture_output=True, text=True, timeout=60, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    log = tmp_path / "daphne.log"
    with log.open("wb") as output:
        daphne = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "daphne", "-e", "tcp:port=0:interface=127.0.0.1", "-v", "1",
            "tests.transport.daphne_site:application",
            stdout=output, stderr=output, env=environment, cwd=ROOT,
        )  # fmt: skip
    try:
        await until(lambda: b"Listening on TCP address" in log.read_bytes() or daphne.returncode is not None)
        assert daphne.returncode is None, log.read_text()
        port = int(log.read_text().partition("Listening on TCP address 127.0.0.1:")[2].split()[0])
        yield Site(f"ws://127.0.0.1:{port}/p2p/signaling/", made.stdout.strip().splitlines()[-1])
    finally:
        if daphne.returncode is None:
            daphne.terminate()
        await asyncio.wait_for(daphne.wait(), 15)


async def test_peers_meet_through_the_packages_own_server(site: Site) -> None:
    members = Members(WebRTCHandler)
    members.account = {"SIGNALING_URL": site.url, "TOKEN": site.token}
    members.options = {"RETRY_FIRST": 0.05, "RETRY_MAX": 0.5}
    a, b = members.start("a:1"), members.start("b:1")
    ends = await a.connection_to("b:1"), await b.connection_to("a:1")
    assert (ends[0].remote.user, ends[0].remote.name) == ("ana", "b")
    await ends[0].send(b"hello")
    assert await received(ends[1], 1) == [b"hello"]
    await b.stop()
    again = members.start("b:2")
    await a.connection_to("b:2")
    assert [connection.remote.instance for connection in a.open] == ["b:2"]
    assert a.reports + again.reports == []

    stranger = members.start("c:1", account={"SIGNALING_URL": site.url, "TOKEN": "no-such-token"})
    with pytest.raises(SignalingRefused) as caught:
        await asyncio.wait_for(stranger.task, 10)
    assert caught.value.code == 4401
    await members.stop()
