from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.nodes import Node, Server
from tests.databases import Database, PostgreSQLDatabase, SQLiteFile


@pytest.fixture
def server(tmp_path: Path, new_file: Callable[[str], Path]) -> Iterator[Server]:
    """A running signaling server."""
    server = Server(tmp_path, SQLiteFile(new_file("server")))
    yield server
    server.process.kill()


@pytest.fixture
def node(
    server: Server, tmp_path: Path, new_file: Callable[[str], Path], new_postgresql: Callable[[], PostgreSQLDatabase]
) -> Iterator[Callable[..., Node]]:
    """``node(name)``: a replica with its declarations stored and no worker yet. Options are settings."""
    nodes: list[Node] = []

    def make(
        name: str,
        path: Path | None = None,
        *,
        declared: bool = True,
        vendor: str = "sqlite",
        **options: Any,
    ) -> Node:
        database: Database = new_postgresql() if vendor == "postgresql" else SQLiteFile(path or new_file(name))
        made = Node(name, database, server, tmp_path, **options)
        nodes.append(made)
        if declared:
            made.declare()
        return made

    yield make
    for made in nodes:
        made.kill()
