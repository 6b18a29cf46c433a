"""Replicas that take part with every model of the test app."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from p2p_replication.models import LedgerEntry
from p2p_replication.protocol.changes import check_rows
from p2p_replication.protocol.messages import Changes
from p2p_replication.storage.applier import Applied
from tests.databases import Database, PostgreSQLDatabase, SQLiteFile
from tests.replicas import LABELS, TestReplica
from tests.storage.schema_project import ALIASES, SchemaProject


class StorageReplica(TestReplica):
    """A replica with all streams declared, and some more ways to look at it."""

    __test__ = False

    def start(self) -> None:
        super().start()
        self.declare_all(self.database.streams)

    def apply(self, other: TestReplica, changes: Changes) -> Applied:
        check_rows(changes.rows)  # as a session does first
        return super().apply(other, changes)

    def entries(self, label: str) -> dict[str, LedgerEntry]:
        return {e.key: e for e in LedgerEntry.objects.using(self.alias).filter(stream=self.stream(label).id)}

    def keys(self, label: str) -> set[str]:
        """The keys of a table's rows, as the ledger has them."""
        table = self.stream(label).table
        return {key for (key,) in self.sql(f"SELECT {table.key_text('t')} FROM {table.name} t")}

    def log(self) -> list[tuple[int, int]]:
        """``(operation, columns)`` of what waits in the change log."""
        return self.sql("SELECT operation, columns FROM p2p_replication_changelogentry ORDER BY id")

    def raw(self, label: str) -> list[Any]:
        """The whole table as literals, so that type and bytes count."""
        return self.site.raw(self.stream(label).table.options.model)

    def canonical(self, label: str) -> list[str]:
        """The whole table in canonical form, which is the same on every database."""
        table = self.stream(label).table
        rows = table.read(list(self.keys(label)))
        return sorted(repr((table.key_to_wire(key), row)) for key, row in rows.items())

    def outside(self, *statements: Any) -> None:
        """Run statements, ``sql`` or ``(sql, params)``, in a connection that has nothing of Django's registered."""
        self.site.outside(*statements)


def meet(*replicas: TestReplica, labels: tuple[str, ...] = LABELS, rounds: int = 2) -> None:
    """Let everybody pull from everybody what is new there, as sessions do."""
    for _ in range(rounds):
        for one in replicas:
            for other in replicas:
                if one is not other:
                    one.meet(other, labels)
                    one.retry_parked()


@pytest.fixture
def replica_class() -> type[TestReplica]:
    return StorageReplica


@pytest.fixture
def members(replica):
    """``members("abc")``: filtered replicas in the pool "starred"."""

    def make(names: str) -> list[Any]:
        made = [replica(name) for name in names]
        for one in made:
            one.declare("starred", "testapp.Note", {"stars__gte": 3})
        return made

    return make


@pytest.fixture(scope="session")
def first_schema(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """``first_schema(vendor)``: a project with databases of that kind, to be copied."""

    @cache
    def make(vendor: str) -> SchemaProject:
        folder = tmp_path_factory.mktemp(f"schema-{vendor}")
        databases: dict[str, Database] = {alias: SQLiteFile(folder / f"{alias}.sqlite3") for alias in ALIASES}
        if vendor == "postgresql":
            server = request.getfixturevalue("postgresql")
            databases = {alias: PostgreSQLDatabase(server, server.create()) for alias in ALIASES}
        return SchemaProject.create(folder / "project", databases)

    return make


@pytest.fixture
def project(first_schema, vendor: str, tmp_path: Path) -> Iterator[SchemaProject]:
    """A new project at its first schema, with two rows that both the first and the second database have."""
    project: SchemaProject = first_schema(vendor).copy(tmp_path / "project")
    yield project
    for database in project.databases.values():
        if isinstance(database, PostgreSQLDatabase):
            database.server.drop(database.name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that does not say otherwise on both databases."""
    if "vendor" in metafunc.fixturenames and metafunc.definition.get_closest_marker("on") is None:
        metafunc.parametrize("vendor", ("sqlite", "postgresql"))
