"""Writes that the triggers must not log: the applier's own, whose versions it knows already."""

from __future__ import annotations

from p2p_replication.storage.replica_database import ReplicaDatabase


class unlogged:
    """Inside a write transaction: the block's writes are not captured."""

    def __init__(self, database: ReplicaDatabase) -> None:
        self.database = database

    def __enter__(self) -> None:
        self.database.vendor.begin_unlogged(self.database.connection)

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        if error is None:
            self.database.vendor.end_unlogged(self.database.connection)
