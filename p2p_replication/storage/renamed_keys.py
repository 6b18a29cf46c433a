"""Rows that got another key, and the rows that refer to them by their local primary key.

Nothing was written to those, so that no trigger saw that they refer to another key now.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2p_replication.models.ledger import BLOCK_BITS, ChangeLogEntry, EntryStatus, Operation
from p2p_replication.storage.ledger import TABLE, chunks, marks
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore

LOG = ChangeLogEntry._meta.db_table


def log_referring_rows(database: ReplicaDatabase, stream: StreamStore, keys: Sequence[str]) -> None:
    """Log an edit of the foreign keys that point at these rows, whose keys are new. Inside a write transaction."""
    parent = stream.table
    for child in database.streams.values():
        table = child.table
        for reference in table.references.by_key.values():
            if reference.table != parent.name:
                continue
            block, bit = divmod(table.names.index(reference.name), BLOCK_BITS)
            column = table.quoted(reference.codec.column)
            with database.connection.cursor() as cursor:
                for chunk in chunks(keys):
                    cursor.execute(
                        f"INSERT INTO {LOG} (stream, layout, key, operation, columns, block, wall) "
                        f"SELECT {child.id}, {child.full_layout}, {table.key_text('t')}, {Operation.UPDATE.value}, "
                        f"{1 << bit}, {block}, {database.vendor.now_ms} FROM {table.name} t "
                        f"JOIN {parent.name} p ON t.{column} = p.{reference.column} "
                        f"WHERE p.{parent.key_column} IN ({marks(len(chunk))}) AND NOT EXISTS (SELECT 1 FROM {TABLE} l "
                        f"WHERE l.stream = %s AND l.key = {table.key_text('t')} AND l.status = %s)",
                        # Of a parked row the ledger says what it refers to.
                        [*chunk, child.id, EntryStatus.PARKED.value],
                    )
