"""Passing over what a peer has already: after a first sync that is its whole table, and it asks for what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2p_replication.models import Origin
from p2p_replication.storage.ledger import TABLE
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore

#: Ledger entries that are passed over at once: some hundredths of a second.
SKIP_ROWS = 50_000
#: Origins of the peer's vector that the database is asked about; a pool of many restarts has more.
ORIGINS = 100


def skip_had(
    database: ReplicaDatabase, stream: StreamStore, vector: Mapping[str, int], position: int
) -> tuple[int, bool]:
    """Return the greatest ``seq`` up to which a peer with this vector lacks nothing, and whether all ended there that
    was looked at: then there may be more of it.

    It is a lower bound: the rows that follow need not be lacking.
    """
    with database.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT seq FROM {TABLE} WHERE stream = %s AND seq > %s ORDER BY seq LIMIT 1 OFFSET %s",
            [stream.id, position, SKIP_ROWS - 1],
        )
        end = cursor.fetchone()
        upper, params = ("AND seq <= %s", list(end)) if end else ("", [])
        condition, known = _lacked(database, vector)
        cursor.execute(
            f"SELECT seq FROM {TABLE} WHERE stream = %s AND seq > %s {upper} AND {condition} ORDER BY seq LIMIT 1",
            [stream.id, position, *params, *known],
        )
        lacked = cursor.fetchone()
        if lacked:
            return max(lacked[0] - 1, position), False
        if end:
            return end[0], True
        cursor.execute(f"SELECT MAX(seq) FROM {TABLE} WHERE stream = %s", [stream.id])
        return max(cursor.fetchone()[0] or 0, position), False


def _lacked(database: ReplicaDatabase, vector: Mapping[str, int]) -> tuple[str, list[Any]]:
    """Return a condition that holds for each entry of which the peer lacks a dot, with its parameters."""
    greatest = sorted(vector, key=lambda origin: vector[origin], reverse=True)[:ORIGINS]
    numbers = Origin.objects.using(database.alias).filter(origin__in=greatest).values_list("pk", "origin")
    whens = [(number, vector[origin]) for number, origin in numbers]
    if not whens:
        return "1 = 1", []
    cases = " ".join(["WHEN %s THEN %s"] * len(whens))
    return (
        f"(more_dots IS NOT NULL OR counter > CASE origin {cases} ELSE 0 END)",
        [value for when in whens for value in when],
    )
