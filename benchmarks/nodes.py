"""Nodes of a benchmark: real processes, as the acceptance tests have them, with the benchmarks' models."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.nodes import Node, Server, environment, run_python, until
from tests.databases import Database, PostgreSQLDatabase, SQLiteFile
from tests.postgresql import PostgreSQLServer

SETTINGS = "benchmarks.settings"
_MIGRATE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0, run_syncdb=True)
{checkpoint}
"""
_CHECKPOINT = """
from django.db import connection
connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
"""


@dataclass
class Site:
    """A folder with databases, a signaling server, and nodes; all gone in the end."""

    folder: Path
    vendor: str = "sqlite"
    nodes: list[Node] = field(default_factory=list)
    _server: Server | None = None
    _postgresql: PostgreSQLServer | None = None
    _templates: dict[str, Database] = field(default_factory=dict)
    _count: int = 0

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = Server(self.folder, self.database("sqlite"), settings=SETTINGS)
        return self._server

    def database(self, vendor: str = "") -> Database:
        """Return a new migrated database."""
        vendor = vendor or self.vendor
        if vendor not in self._templates:
            self._templates[vendor] = self._migrated(vendor)
        return self.copy(self._templates[vendor])

    def copy(self, database: Database) -> Database:
        """Return a copy of a database that nobody has open."""
        self._count += 1
        if isinstance(database, SQLiteFile):
            path = self.folder / f"db{self._count}.sqlite3"
            shutil.copy(database.path, path)
            return SQLiteFile(path)
        assert isinstance(database, PostgreSQLDatabase) and self._postgresql is not None
        return PostgreSQLDatabase(self._postgresql, self._postgresql.create(database.name))

    def _migrated(self, vendor: str) -> Database:
        if vendor == "postgresql":
            if self._postgresql is None:
                self._postgresql = PostgreSQLServer(self.folder / "pg")
                self._postgresql.durable = True
                self._postgresql.start()
            made: Database = PostgreSQLDatabase(self._postgresql, self._postgresql.create())
        else:
            made = SQLiteFile(self.folder / "template.sqlite3")
        code = _MIGRATE.format(checkpoint=_CHECKPOINT if vendor == "sqlite" else "")
        run_python(code, environment(made, settings=SETTINGS))
        return made

    def node(self, name: str, database: Database | None = None, models: tuple[str, ...] = ("items.Item",)) -> Node:
        """Return a node with its declarations stored, and no worker yet."""
        node = Node(name, database or self.database(), self.server, self.folder, settings=SETTINGS)
        node.declare(models)
        self.nodes.append(node)
        return node

    def end_nodes(self) -> None:
        for node in self.nodes:
            node.kill()
        self.nodes.clear()

    def close(self) -> None:
        self.end_nodes()
        if self._server is not None:
            self._server.process.kill()
        if self._postgresql is not None:
            self._postgresql.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def site(vendor: str = "sqlite") -> Iterator[Site]:
    """On the disk, not in memory: durable writes are part of what is measured."""
    made = Site(Path(tempfile.mkdtemp(prefix="p2p-bench-")), vendor)
    try:
        yield made
    finally:
        made.close()


def run_in(database: Database, code: str) -> str:
    """Run code in a process of its own on a database, Django set up; return what it prints."""
    return run_python("import django\ndjango.setup()\n" + code, environment(database, settings=SETTINGS), timeout=900)


def fill(database: Database, model: str, kind: str) -> None:
    """Write rows into a database and let them get their versions, as a worker that has caught up leaves them.

    Args:
        kind: a call of a function of ``items.rows``.
    """
    code = (
        "from itertools import islice\n"
        "from benchmarks.items import models, rows\n"
        "from p2p_replication.storage.posting import post_all\n"
        "from p2p_replication.storage.write_budget import WriteBudget\n"
        "from p2p_replication.worker.opening import open_database\n"
        f"made = (models.{model}(**row) for row in rows.{kind})\n"
        "while chunk := list(islice(made, 5000)):\n"
        f"    models.{model}.objects.bulk_create(chunk)\n"
        "database = open_database()\n"
        "database.budget = WriteBudget(1.0, 0.0)\n"
        "post_all(database)\n"
    )
    run_in(database, code + (_CHECKPOINT if isinstance(database, SQLiteFile) else ""))


def start(*nodes: Node, ready: str = "starts with") -> None:
    """Start workers, and wait until each has said that its pool starts (or ``ready``)."""
    for node in nodes:
        node.start()
    for node in nodes:
        until(lambda node=node: ready in node.worker.output(), f"{node.name} is ready")


def linked(node: Node) -> int:
    """Return the number of peers that a node is connected with."""
    return int(node.sql("SELECT COUNT(*) FROM p2p_replication_peer WHERE state = 'connected'")[0][0])


def connected_at(node: Node) -> float:
    """Return when a node's connection was opened, in seconds since the epoch."""
    (moment,) = node.sql("SELECT MAX(connected_since) FROM p2p_replication_peer")[0]
    return _epoch(moment)


def _epoch(moment: Any) -> float:
    import datetime

    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment).replace(tzinfo=datetime.UTC)
    return float(moment.timestamp())


def pid(node: Node) -> int:
    assert node.worker is not None
    return node.worker.popen.pid


def wait(condition: Any, what: str, timeout: float = 600.0, step: float = 0.002) -> float:
    """Wait until a condition holds; return when it did, in seconds since the epoch."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(step)
    return time.time()
