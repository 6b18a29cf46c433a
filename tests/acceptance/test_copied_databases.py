"""A database that was copied under its running worker, as a node of its own: real processes, real WebRTC."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.nodes import Node, until
from tests.acceptance.shown import links
from tests.acceptance.test_histories import IMPORT, equal

pytestmark = pytest.mark.acceptance


def replica_id(node: Node) -> str:
    return str(node.sql("SELECT replica_id FROM p2p_replication_replica")[0][0])


def test_a_live_copy_its_original_and_a_peer_of_both_end_as_three_replicas(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    a, c = node("a", LEASE_TTL=2.0), node("c", LEASE_TTL=2.0)
    a.django(IMPORT + "Note.objects.bulk_create(Note(title=f'before {i}') for i in range(20))")
    a.start()
    c.start()
    until(lambda: c.count() == 20, "the first sync")
    before = replica_id(a)
    path = tmp_path / "copied.sqlite3"
    with closing(sqlite3.connect(a.path)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    b = node("b", path, declared=False, LEASE_TTL=2.0)
    for each in (a, b):
        each.django(IMPORT + f"Note.objects.bulk_create(Note(title=f'{each.name} {{i}}') for i in range(10))")
    b.start()
    until(lambda: replica_id(a) != replica_id(b), "one of the two takes a new identity", 60)
    assert before in (replica_id(a), replica_id(b))
    c.django(IMPORT + "Note.objects.create(title='of c')")
    until(lambda: all(each.count() == 41 for each in (a, b, c)) and equal(a, b, c), "all hold all rows", 60)
    until(lambda: all(links(each) == 2 for each in (a, b, c)), "everybody is linked with everybody", 60)
    for each in (a, b, c):
        assert each.stop() == 0
    renewed = [each for each in (a, b) if "goes on under a new identity" in each.log.read_text()]
    assert len(renewed) == 1
    for each in (a, b, c):
        assert "Traceback" not in each.log.read_text()
