"""Processes that die without a goodbye: peers, workers and the signaling server."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.acceptance.nodes import Node, Server, run_python, until
from tests.acceptance.shown import connected_peers, links, rows_in

pytestmark = pytest.mark.acceptance

CREATE = "from tests.testapp.models import Note; Note.objects.create(title={!r})"


def test_a_killed_peer_is_noticed_within_10_s_and_a_killed_workers_peers_are_gone_within_15_s(
    node: Callable[..., Node],
) -> None:
    a, b = node("a"), node("b")
    a.start()
    b.start()
    until(lambda: links(a) and links(b), "both are connected")
    assert connected_peers(a) == ["b"]
    assert connected_peers(b) == ["a"]
    b.kill()
    killed = time.monotonic()
    until(lambda: links(a) == 0, "a notices that b is dead", 10)
    until(lambda: connected_peers(b) == [], "b's database shows nobody as connected", 15 - (time.monotonic() - killed))
    b.start()
    until(lambda: links(a) and links(b), "they find each other again")
    assert a.stop() == 0
    assert b.stop() == 0


def test_open_links_survive_the_signaling_server_and_stay_one_per_replica(
    server: Server, node: Callable[..., Node]
) -> None:
    a, b = node("a"), node("b")
    a.start()
    b.start()
    until(lambda: links(a) and links(b), "both are connected")
    since = a.sql("SELECT connected_since FROM p2p_replication_peer")
    server.process.kill()
    a.django(CREATE.format("without a server"))
    until(lambda: b.count() == 1, "rows go on without the server")
    time.sleep(3)
    assert links(a) == links(b) == 1
    server.process = server.start()
    until(lambda: server_members(server) == 2, "both have come back to the room")
    time.sleep(1)
    for i in range(5):
        b.django(CREATE.format(f"after {i}"))
    until(lambda: a.count() == 6, "rows go on after its return")
    assert a.sql("SELECT connected_since FROM p2p_replication_peer") == since, "the link is the one of before"
    until(lambda: rows_in(a) >= 5 and rows_in(b) >= 1, "all rows are counted")
    assert a.stop() == 0
    assert b.stop() == 0
    assert (rows_in(a), rows_in(b)) == (5, 1), "no row came twice"
    assert "another connection" not in a.log.read_text()


def server_members(server: Server) -> int:
    """Return how many clients have joined since the server came back."""
    code = (
        "import django; django.setup()\n"
        "from p2p_replication.models.signaling import RoomMember\n"
        "print(RoomMember.objects.filter(server=RoomMember.objects.latest('joined_at').server).count())\n"
    )
    return int(run_python(code, server.environment))
