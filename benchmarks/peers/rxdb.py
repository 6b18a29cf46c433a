"""RxDB's WebRTC replication: node processes with memory storage, node-datachannel, its own signaling server."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uuid_utils

from benchmarks.items import rows
from benchmarks.peers.processes import CommandProcess

SOURCE = Path(__file__).parent / "rxdb_node"
VERSION = json.loads((SOURCE / "package.json").read_text())["dependencies"]["rxdb"]
#: The batch size at which its first sync is quickest, and the one that it has by itself.
BATCH = 1_000
DEFAULT_BATCH = 20


def install(folder: Path) -> Path:
    """Install RxDB into a folder, if it is not there; return the folder. Needs npm."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in SOURCE.iterdir():
        shutil.copy(file, folder)
    if not (folder / "node_modules" / "rxdb").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=folder, check=True, timeout=600)
    return folder


def is_available() -> bool:
    return shutil.which("npm") is not None and shutil.which("node") is not None


@dataclass
class RxDB:
    """RxDB's signaling server, and peers made for one measurement at a time."""

    folder: Path
    url: str

    def documents(self, count: int) -> Path:
        """Return a file with so many documents."""
        path = self.folder / f"documents{count}.json"
        if not path.exists():
            made = [
                {**row, "id": str(uuid_utils.uuid7()), "updated": row["updated"].isoformat()}
                for row in rows.items(count)
            ]
            path.write_text(json.dumps(made))
        return path

    @contextmanager
    def peers(self, count: int) -> Iterator[list[CommandProcess]]:
        made = [CommandProcess(["node", "peer.mjs"], self.folder) for _ in range(count)]
        try:
            yield made
        finally:
            for peer in made:
                peer.end()

    def first_sync(self, count: int, batch: int = BATCH) -> FirstSync:
        """Sync documents into an empty replica, from the open connection on."""
        with self.peers(2) as (a, b):
            topic = uuid.uuid4().hex
            a.ask("fill", file=str(self.documents(count)))
            b.ask("join", url=self.url, topic=topic, batch=batch)
            cpu = a.ask("cpu") + b.ask("cpu")
            b.begin("waitFor", count=count)
            a.ask("join", url=self.url, topic=topic, batch=batch)
            ended = b.answer()
            sent = a.ask("sent")
            seconds = (ended - sent["connectedAt"]) / 1000
            cpu = a.ask("cpu") + b.ask("cpu") - cpu
            return FirstSync(seconds, (sent["bytes"] + b.ask("sent")["bytes"]) / count, cpu, a.ask("role"))

    def pool(self, size: int, count: int, batch: int = DEFAULT_BATCH) -> PoolSync:
        """Let a pool whose first peer has documents come to rest; then insert one more and see what that costs."""
        with self.peers(size) as peers:
            topic = uuid.uuid4().hex
            peers[0].ask("fill", file=str(self.documents(count)))
            for peer in peers:
                peer.begin("join", url=self.url, topic=topic, batch=batch)
            for peer in peers:
                peer.answer()
            began = min(self._connected(peer) for peer in peers)
            for peer in peers[1:]:
                peer.begin("waitFor", count=count)
            ended = max(peer.answer() for peer in peers[1:])
            self._rest(peers)
            before = self._sent(peers)
            writes = 10
            for i in range(writes):
                document = {**next(rows.items(1, seed=i)), "id": str(uuid_utils.uuid7())}
                document["updated"] = document["updated"].isoformat()
                peers[i % size].ask("insert", document=document)
                time.sleep(0.3)
            self._rest(peers)
            after = self._sent(peers)
            return PoolSync(
                (ended - began) / 1000, before[1] / (count * (size - 1)), (after[0] - before[0]) / writes
            )  # fmt: skip

    def _connected(self, peer: CommandProcess) -> float:
        while not (at := peer.ask("sent")["connectedAt"]):
            time.sleep(0.01)
        return float(at)

    def _sent(self, peers: list[CommandProcess]) -> tuple[int, int]:
        found = [peer.ask("sent") for peer in peers]
        return sum(one["bytes"] for one in found), sum(one["copies"] for one in found)

    def _rest(self, peers: list[CommandProcess], seconds: float = 2.0, longest: float = 60.0) -> None:
        """Wait until nobody has sent anything for some seconds."""
        end, sent, since = time.monotonic() + longest, self._sent(peers), time.monotonic()
        while time.monotonic() - since < seconds and time.monotonic() < end:
            time.sleep(0.1)
            if (now := self._sent(peers)) != sent:
                sent, since = now, time.monotonic()


@dataclass(frozen=True)
class FirstSync:
    """``role``: which one the peer with the documents had; RxDB draws it."""

    seconds: float
    bytes_per_row: float
    cpu: float
    role: str


@dataclass(frozen=True)
class PoolSync:
    """Seconds until all have all, copies of a document per replica that got it, bytes that one live insert costs."""

    seconds: float
    copies: float
    bytes_per_write: float


@contextmanager
def rxdb(folder: Path) -> Iterator[RxDB]:
    """Run RxDB's signaling server."""
    install(folder)
    server = subprocess.Popen(
        ["node", "signaling.mjs"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield RxDB(folder, f"ws://127.0.0.1:{int(server.stdout.readline())}")
    finally:
        server.kill()
        server.communicate()
