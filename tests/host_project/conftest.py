"""A host project for each test, on SQLite and on PostgreSQL, its databases migrated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host_project.project import SQLITE, HostProject
from tests.postgresql import PostgreSQLServer

#: ``new_databases(folder, *aliases, empty=())``: DATABASES with new migrated databases, and some without tables.
NewDatabases = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def first_project(tmp_path_factory: pytest.TempPathFactory) -> HostProject:
    return HostProject.create(tmp_path_factory.mktemp("host") / "project")


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def new_databases(vendor: str, first_project: HostProject, request: pytest.FixtureRequest) -> NewDatabases:
    if vendor == "sqlite":
        return _on_sqlite(first_project)
    return _on_postgresql(first_project, request.getfixturevalue("postgresql"))


def _on_sqlite(project: HostProject) -> NewDatabases:
    template = project.folder.parent / "template.sqlite3"
    project.use({"default": {**SQLITE, "NAME": str(template)}})
    project.manage("migrate", "--verbosity=0")

    def make(folder: Path, *aliases: str, empty: tuple[str, ...] = ()) -> dict[str, Any]:
        for alias in aliases:
            shutil.copy(template, folder / f"{alias}.sqlite3")
        return {alias: {**SQLITE, "NAME": str(folder / f"{alias}.sqlite3")} for alias in (*aliases, *empty)}

    return make


def _on_postgresql(project: HostProject, server: PostgreSQLServer) -> NewDatabases:
    template = server.create()
    project.use({"default": server.settings(template)})
    project.manage("migrate", "--verbosity=0")

    def make(folder: Path, *aliases: str, empty: tuple[str, ...] = ()) -> dict[str, Any]:
        templates = {**dict.fromkeys(aliases, template), **dict.fromkeys(empty, "template0")}
        return {alias: server.settings(server.create(source)) for alias, source in templates.items()}

    return make


@pytest.fixture
def project(first_project: HostProject, new_databases: NewDatabases, tmp_path: Path) -> HostProject:
    """A project with two databases, ``default`` and ``peer``."""
    project = first_project.copy(tmp_path / "project")
    project.use(new_databases(project.folder, "default", "peer"))
    return project
