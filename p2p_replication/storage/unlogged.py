"""Writes that the triggers must not log: the applier's own, whose versions it knows already."""

from __future__ import annotations

from p2p_replication.models.replica import Applying
from p2p_replication.storage.replica_database import ReplicaDatabase

MARKER = Applying._meta.db_table


class unlogged:
    """Inside a write transaction: the block's writes are not captured.

    A row in a table, written and removed within the transaction, is seen by its triggers only and goes with a
    rollback; anything held by the connection would be unknown to the triggers of other clients.
    """

    def __init__(self, database: ReplicaDatabase) -> None:
        self.database = database

    def __enter__(self) -> None:
        with self.database.connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {MARKER} (id) VALUES (1)")

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        if error is None:
            with self.database.connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {MARKER}")
