from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.nodes import Node, Server


@pytest.fixture
def server(tmp_path: Path, new_file: Callable[[str], Path]) -> Iterator[Server]:
    """A running signaling server."""
    server = Server(tmp_path, new_file("server"))
    yield server
    server.process.kill()


@pytest.fixture
def node(server: Server, new_file: Callable[[str], Path]) -> Iterator[Callable[..., Node]]:
    """``node(name)``: a replica with its declarations stored and no worker yet. Options are settings."""
    nodes: list[Node] = []

    def make(name: str, path: Path | None = None, *, declared: bool = True, **options: Any) -> Node:
        made = Node(name, path or new_file(name), server, **options)
        nodes.append(made)
        if declared:
            made.declare()
        return made

    yield make
    for made in nodes:
        made.kill()
