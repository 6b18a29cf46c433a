"""The two nodes under check, and the questions that every step asks of them."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo_project.check.talk import Operator, StepFailed
from demo_project.launcher.node import ROOT, Node
from demo_project.launcher.processes import Child, Children
from demo_project.launcher.readings import Reading, connect, read

DIGEST = ROOT / "demo_project" / "digest.py"
LOOK_INTERVAL = 0.02
DIGEST_INTERVAL = 0.3


@dataclass
class Bench:
    """What the steps work with.

    Attributes:
        patience: how long a step may take to arrive, in seconds.
        places: how many places A has.
    """

    folder: Path
    a: Node
    b: Node
    children: Children
    patience: float
    places: int = 0
    links: list[str] = field(default_factory=list)
    operators: dict[str, Operator] = field(default_factory=dict)
    workers: dict[str, Child] = field(default_factory=dict)
    stats_files: list[Path] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def log(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:5.1f} s] {text}", flush=True)

    def on_a(self, do: str, **arguments: Any) -> Any:
        return self.operators["a"].call(do, **arguments)

    def start_worker(self, node: Node) -> int:
        """Start the node's worker; returns the time just before, in ns since the epoch."""
        stats = self.folder / f"{node.key}-worker-{len(self.stats_files)}.stats.json"
        self.stats_files.append(stats)
        before = time.time_ns()
        self.workers[node.key] = node.start_worker(self.children, P2P_STATS_FILE=str(stats))
        return before

    def stop_worker(self, node: Node) -> None:
        """Stop the node's worker. Raises StepFailed if it doesn't stop by itself."""
        worker = self.workers[node.key]
        worker.require_alive()
        if not worker.stop():
            raise StepFailed(f"{worker.name} did not stop on SIGTERM and was killed.{worker.tail()}")

    def expect(self, what: str, node: Node, query: str, wanted: Sequence[Any], parameters: Sequence[Any] = ()) -> None:
        """Wait until the query's first row is ``wanted`` on the node. Raises StepFailed."""
        deadline = time.monotonic() + self.patience
        with contextlib.closing(connect(node.database)) as connection:
            while (found := connection.execute(query, parameters).fetchone()) != tuple(wanted):
                if time.monotonic() > deadline:
                    raise StepFailed(
                        f"{node.name} does not show {what} after {self.patience:g} s: it has {found}, not {wanted}"
                    )
                self.children.require_alive()
                time.sleep(LOOK_INTERVAL)

    def expect_both(self, what: str, query: str, wanted: Sequence[Any], parameters: Sequence[Any] = ()) -> None:
        for node in (self.b, self.a):
            self.expect(what, node, query, wanted, parameters)

    def compare(self) -> None:
        """Let the digest script compare all rows, until they are equal. Raises StepFailed after the patience."""
        deadline = time.monotonic() + self.patience
        while True:
            outcome = subprocess.run(
                [sys.executable, str(DIGEST), str(self.a.database), str(self.b.database)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if outcome.returncode == 0:
                for line in outcome.stdout.splitlines():
                    self.log(f"    {line}")
                return
            if time.monotonic() > deadline:
                raise StepFailed(f"the digests differ:\n{outcome.stdout}{outcome.stderr}")
            time.sleep(DIGEST_INTERVAL)

    def wait_until_posted(self) -> None:
        """Wait until A's worker has given every captured write its version, or B's first sync would wait for it."""
        deadline = time.monotonic() + 2 * self.patience
        while time.monotonic() < deadline:
            self.children.require_alive()
            with contextlib.suppress(sqlite3.Error), contextlib.closing(connect(self.a.database)) as connection:
                (waiting,) = connection.execute("SELECT count(*) FROM p2p_replication_changelogentry").fetchone()
                (versions,) = connection.execute("SELECT count(*) FROM p2p_replication_ledgerentry").fetchone()
                if waiting == 0 and versions >= self.places:
                    return
            time.sleep(0.1)
        raise StepFailed(f"A's worker has not posted its {self.places} rows after {2 * self.patience:g} s")

    def reading(self, node: Node) -> Reading:
        return read(node.database)
