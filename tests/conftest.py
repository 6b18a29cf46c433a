"""Replicas for tests: each a real SQLite file of its own, made from one migrated template."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from tests.replicas import TestReplica


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, django_db_blocker) -> Path:
    """A migrated, empty database file."""
    path = tmp_path_factory.mktemp("template") / "template.sqlite3"
    with django_db_blocker.unblock(), attached("template", path):
        call_command("migrate", database="template", verbosity=0, run_syncdb=True)
        with connections["template"].cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


class attached:
    """Make a database file known to Django under an alias."""

    def __init__(self, alias: str, path: Path) -> None:
        self.alias, self.path = alias, path

    def __enter__(self) -> None:
        attach(self.alias, self.path)

    def __exit__(self, *error: object) -> None:
        detach(self.alias)


def attach(alias: str, path: Path) -> None:
    options = connections.configure_settings({**settings.DATABASES, alias: {**SQLITE, "NAME": str(path)}})
    connections.databases[alias] = options[alias]


def detach(alias: str) -> None:
    connections[alias].close()
    del connections[alias]
    del connections.databases[alias]


SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
    },
}


@pytest.fixture
def new_file(template: Path, tmp_path: Path) -> Callable[[str], Path]:
    """``new_file(name)``: the path of a new migrated database file."""

    def make(name: str) -> Path:
        path = tmp_path / f"{name}.sqlite3"
        shutil.copy(template, path)
        return path

    return make


@pytest.fixture
def replica_class() -> type[TestReplica]:
    """What ``replica`` makes; a folder of tests may say otherwise."""
    return TestReplica


@pytest.fixture
def replica(
    new_file: Callable[[str], Path], replica_class: type[TestReplica], django_db_blocker
) -> Iterator[Callable[..., TestReplica]]:
    """``replica(name)``: a new replica of the test app's models."""
    aliases: list[str] = []

    def make(name: str, path: Path | None = None) -> TestReplica:
        path = path or new_file(name)
        attach(name, path)
        aliases.append(name)
        return replica_class(name, path)

    with django_db_blocker.unblock():
        try:
            yield make
        finally:
            for alias in aliases:
                detach(alias)
