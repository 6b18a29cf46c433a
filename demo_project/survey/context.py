"""What every page's header shows: which node this is, and how its pool is doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from demo_project.survey.topic import POOL_TOPIC
from p2p_replication.models import Pool


@dataclass(frozen=True)
class PoolView:
    """The pool in one word (for the colour) and one line (for people)."""

    #: ``"synced"``, ``"behind"``, ``"alone"`` or ``"stopped"``.
    mood: str
    text: str
    peers: int = 0
    rows_behind: int = 0


def pool_view() -> PoolView:
    """Read the pool's state as the worker last wrote it."""
    if settings.OUTAGE_FILE.exists():
        return PoolView("stopped", "off the net")
    pool = Pool.objects.active().filter(topic=POOL_TOPIC).first()
    if pool is None or not pool.has_live_worker:
        return PoolView("stopped", "no worker is running")
    peers = list(pool.peers.connected())
    if not peers:
        return PoolView("alone", pool.signaling_state or "no peer is connected")
    behind = sum(peer.rows_behind for peer in peers)
    connected = f"{len(peers)} peer{'s' if len(peers) > 1 else ''} connected"
    if behind:
        return PoolView("behind", f"{connected}, {behind:,} rows behind", len(peers), behind)
    if all(peer.in_sync for peer in peers):
        return PoolView("synced", f"{connected}, in sync", len(peers))
    return PoolView("behind", f"{connected}, exchanging rows", len(peers))


def node(request: HttpRequest) -> dict[str, Any]:
    """Context processor. The pool is read when a template asks for it."""
    return {
        "node": settings.NODE,
        "node_name": settings.DEMO_NODE_NAME,
        "other_name": settings.DEMO_OTHER_NAME,
        "other_url": settings.DEMO_OTHER_URL,
        "pool_view": pool_view,
        "is_offline": settings.OUTAGE_FILE.exists,
    }
