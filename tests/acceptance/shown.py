"""What the database of a node shows of its peers, as the admin and ``pool.peers`` show it."""

from __future__ import annotations

from tests.acceptance.nodes import Node

_CONNECTED = """
from p2p_replication.models import Peer
print(*(peer.name for peer in Peer.objects.select_related("pool") if peer.is_connected), sep="|")
"""


def connected_peers(node: Node) -> list[str]:
    """Return the names of the peers that are shown as connected."""
    return sorted(name for name in node.django(_CONNECTED).strip().split("|") if name)


def links(node: Node) -> int:
    """Return how many peers the worker itself says are connected, whoever believes it."""
    return int(node.sql("SELECT COUNT(*) FROM p2p_replication_peer WHERE state = 'connected'")[0][0])


def rows_in(node: Node) -> int:
    return int(node.sql("SELECT COALESCE(SUM(rows_in), 0) FROM p2p_replication_peer")[0][0])
