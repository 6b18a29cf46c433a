"""Passing over what a peer has already: after a first sync that is its whole table, and it asks for what it lacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from p2p_replication.storage.ledger import TABLE
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore

#: Ledger entries that are passed over at once, in some hundredths of a second.
SKIP_ROWS = 50_000


def skip_had(
    database: ReplicaDatabase,
    stream: StreamStore,
    vector: Mapping[str, int],
    origins: Collection[int],
    position: int,
) -> tuple[int, bool]:
    """Return a ``seq`` up to which a peer with this vector lacks nothing, and whether it ends there only because that
    was enough for once.

    It is a lower bound: entries of several dots, or of others than these origins (local numbers), are not passed over.
    """
    with database.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT seq FROM {TABLE} WHERE stream = %s AND seq > %s ORDER BY seq LIMIT 1 OFFSET %s",
            [stream.id, position, SKIP_ROWS - 1],
        )
        end = cursor.fetchone()
        upper = "AND seq <= %s" if end else ""
        cases = " ".join(["WHEN %s THEN %s"] * len(origins))
        had = [value for origin in origins for value in (origin, vector.get(database.origin_id(origin), 0))]
        cursor.execute(
            f"SELECT seq FROM {TABLE} WHERE stream = %s AND seq > %s {upper} "
            f"AND (more_dots IS NOT NULL OR counter > CASE origin {cases} ELSE 0 END) ORDER BY seq LIMIT 1",
            [stream.id, position, *(end or ()), *had],
        )
        lacked = cursor.fetchone()
        if lacked:
            return max(lacked[0] - 1, position), False
        if end:
            return end[0], True
        cursor.execute(f"SELECT MAX(seq) FROM {TABLE} WHERE stream = %s", [stream.id])
        return max(cursor.fetchone()[0] or 0, position), False
