"""A node of the demo as it really runs: a database file and Daphne, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo_project.launcher.folder import Folder
from demo_project.launcher.node import Node, prepared
from demo_project.launcher.ports import free_ports
from demo_project.launcher.processes import Children

PLACES = 40


@pytest.fixture(scope="session")
def children() -> Iterator[Children]:
    children = Children()
    yield children
    children.stop()


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory, children: Children) -> tuple[Node, Node]:
    """Node A with a few cities and its web process, and node B with a database only. No workers."""
    home = Folder(tmp_path_factory.mktemp("demo"))
    home.claim()
    first, second = free_ports(2)
    a, b = home.nodes((first, second))
    for child in [a.prepare(children, "--tags"), b.prepare(children)]:
        prepared(child)
    load_cities(a, children, "--places", str(PLACES))
    a.wait_until_it_answers(a.start_web(children))
    return a, b


@pytest.fixture
def node(nodes: tuple[Node, Node]) -> Node:
    return nodes[0]


@pytest.fixture
def link(node: Node, children: Children) -> str:
    """A new sign-in link of node A: path and query."""
    return str(prepared(node.prepare(children, "--link-only"))["link"])


def load_cities(node: Node, children: Children, *arguments: str) -> str:
    """Run the command to its end; returns its log so far."""
    child = node.manage(children, "load_cities", *arguments)
    child.finish(60)
    return child.log.read_text()
