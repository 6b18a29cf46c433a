"""What the pools of a worker have sent and received, for a file that others read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from p2p_replication.pool.live_pool import LivePool

#: Counts since the worker's start; ``channel_frames_out`` are those that were no heartbeats.
NAMES = (
    "channel_bytes_in", "channel_bytes_out", "channel_frames_out", "signaling_bytes_in", "signaling_bytes_out",
)  # fmt: skip


def traffic_of(pool: LivePool) -> Counter[str]:
    """Return the traffic of a pool's data channels and of its signaling."""
    signaling = getattr(pool.handler, "signaling", None)
    counts = Counter(pool.ended_traffic)
    for replicator in pool.replicators:
        counts.update(replicator.session.traffic())
    counts["signaling_bytes_in"] += getattr(signaling, "received_bytes", 0)
    counts["signaling_bytes_out"] += getattr(signaling, "sent_bytes", 0)
    return counts


def write_traffic(path: str, counts: Mapping[str, int]) -> None:
    """Write counts as JSON, in one step for whoever reads the file."""
    unfinished = Path(path + ".new")
    unfinished.write_text(json.dumps({name: counts.get(name, 0) for name in NAMES}) + "\n")
    unfinished.replace(path)
