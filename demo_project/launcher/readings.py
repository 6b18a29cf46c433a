"""What a node's database says of its pool and rows, read without Django: the launcher serves two nodes."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from demo_project.survey.topic import POOL_TOPIC


@dataclass(frozen=True)
class PeerReading:
    name: str
    state: str
    rows_in: int
    rows_out: int
    bytes_in: int
    bytes_out: int
    rows_behind: int
    #: 0 or 1, as SQLite has it.
    in_sync: int

    @property
    def is_connected(self) -> bool:
        return self.state == "connected"


@dataclass(frozen=True)
class Reading:
    """A look at a node's database."""

    places: int = 0
    observations: int = 0
    has_worker: bool = False
    signaling: str = ""
    peers: list[PeerReading] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def connected(self) -> list[PeerReading]:
        return [peer for peer in self.peers if peer.is_connected] if self.has_worker else []

    @property
    def state(self) -> str:
        """In sync or not, in a few words."""
        if not self.has_worker:
            return "no worker"
        if not self.connected:
            return self.signaling or "no peer"
        if behind := sum(peer.rows_behind for peer in self.connected):
            return f"{behind:,} rows behind"
        return "in sync" if all(peer.in_sync for peer in self.connected) else "exchanging rows"


def connect(database: Path) -> sqlite3.Connection:
    """Open a node's database for reading."""
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5, isolation_level=None)


def read(database: Path) -> Reading:
    """Look at a node. Raises sqlite3.Error while its tables are not there yet."""
    with contextlib.closing(connect(database)) as connection:
        places, observations = connection.execute(
            "SELECT (SELECT count(*) FROM survey_place), (SELECT count(*) FROM survey_observation)"
        ).fetchone()
        pool = connection.execute(
            "SELECT id, lease_until > strftime('%Y-%m-%d %H:%M:%f', 'now'), signaling_state "
            "FROM p2p_replication_pool WHERE topic = ? AND cancelled_at IS NULL",
            [POOL_TOPIC],
        ).fetchone()
        if pool is None:
            return Reading(places, observations)
        peers = connection.execute(
            "SELECT coalesce(nullif(name, ''), substr(replica_id, 1, 8)), state, rows_in, rows_out, bytes_in, "
            "bytes_out, rows_behind, in_sync FROM p2p_replication_peer WHERE pool_id = ? ORDER BY name, replica_id",
            [pool[0]],
        ).fetchall()
        errors = connection.execute(
            "SELECT text FROM p2p_replication_poolerror WHERE pool_id = ? ORDER BY at DESC, id DESC LIMIT 3", [pool[0]]
        ).fetchall()
    return Reading(
        places,
        observations,
        bool(pool[1]),
        pool[2],
        [PeerReading(*peer) for peer in peers],
        [text for (text,) in errors],
    )
