"""Finding what no trigger saw: a table is compared with its ledger, row by row, and differences become changes.

The differences go into the change log as ordinary local writes, so that posting does the rest. A row that was there
before replication gets the oldest clock of all; one that differs gets the time of the discovery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.ledger import ChangeLogEntry, EntryStatus, FieldLayout, Operation, Stream
from p2p_replication.storage.capture.sqlite import NOW
from p2p_replication.storage.digests import differing, field_digests
from p2p_replication.storage.ledger import TABLE
from p2p_replication.storage.posting import BLOCK_BITS
from p2p_replication.storage.table import ModelTable

LOG = ChangeLogEntry._meta.db_table
PAGE = 2_000


@dataclass(frozen=True)
class Reconciled:
    """How many rows were new, differed, or were gone."""

    adopted: int = 0
    changed: int = 0
    gone: int = 0

    @property
    def total(self) -> int:
        return self.adopted + self.changed + self.gone


def reconcile(connection: BaseDatabaseWrapper, stream: Stream, table: ModelTable) -> Reconciled:
    """Append what differs between a table and its ledger to the change log. Inside a write transaction.

    Rows with entries in the log already are left to posting.
    """
    adopted = _log_missing(
        connection, stream, Operation.ADOPT,
        f"SELECT t.{table.key_column} FROM {table.name} t WHERE NOT EXISTS "
        f"(SELECT 1 FROM {TABLE} l WHERE l.stream = %s AND l.key = t.{table.key_column} AND l.status <> %s)",
        [stream.pk, EntryStatus.DELETED.value],
    )  # fmt: skip
    gone = _log_missing(
        connection, stream, Operation.DELETE,
        f"SELECT l.key FROM {TABLE} l WHERE l.stream = %s AND l.status = %s AND NOT EXISTS "
        f"(SELECT 1 FROM {table.name} t WHERE t.{table.key_column} = l.key)",
        [stream.pk, EntryStatus.PRESENT.value],
    )  # fmt: skip
    return Reconciled(adopted, _log_different(connection, stream, table), gone)


def _log_missing(
    connection: BaseDatabaseWrapper, stream: Stream, operation: Operation, keys: str, params: list[Any]
) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            # INSERT comes first: sqlite3 counts the rows of statements that begin so, and no others.
            f"INSERT INTO {LOG} (stream, layout, key, operation, columns, block, wall) "
            f"WITH k(key) AS ({keys}), p(key) AS (SELECT key FROM {LOG} WHERE stream = {stream.pk}) "
            f"SELECT {stream.pk}, {stream.layout_id}, k.key, {operation.value}, 0, 0, {NOW} FROM k "
            "WHERE k.key NOT IN (SELECT key FROM p)",
            params,
        )
        return max(int(cursor.rowcount), 0)


def _log_different(connection: BaseDatabaseWrapper, stream: Stream, table: ModelTable) -> int:
    """Log the rows whose content differs from their digest, field by field."""
    layouts = {layout.pk: tuple(layout.fields) for layout in FieldLayout.objects.using(connection.alias).all()}
    current = layouts[stream.layout_id] if stream.layout_id else table.names
    found = 0
    last = 0
    while True:
        with connection.cursor() as cursor:
            values = table.select_list("t")
            cursor.execute(
                f"SELECT l.id, l.key, l.layout, l.digest{', ' + values if values else ''} FROM {TABLE} l "
                f"JOIN {table.name} t ON t.{table.key_column} = l.key "
                "WHERE l.stream = %s AND l.status = %s AND l.id > %s AND l.key NOT IN "
                f"(SELECT key FROM {LOG} WHERE stream = %s) ORDER BY l.id LIMIT %s",
                [stream.pk, EntryStatus.PRESENT.value, last, stream.pk, PAGE],
            )
            records = cursor.fetchall()
            for record in records:
                last = record[0]
                row = dict(zip(table.names, table.wire_row(record[4:]), strict=True))
                fields = layouts.get(record[2], ())
                now = field_digests([row.get(name) for name in fields])
                names = {fields[i] for i in differing(bytes(record[3]), now) if i < len(fields)} & row.keys()
                bits = [current.index(name) for name in names if name in current]
                found += bool(bits)
                for block in sorted({bit // BLOCK_BITS for bit in bits}):
                    bitmap = sum(1 << (bit % BLOCK_BITS) for bit in bits if bit // BLOCK_BITS == block)
                    cursor.execute(
                        f"INSERT INTO {LOG} (stream, layout, key, operation, columns, block, wall) "
                        f"SELECT %s, %s, %s, %s, %s, %s, {NOW}",
                        [stream.pk, stream.layout_id, record[1], Operation.ADOPT.value, bitmap, block],
                    )
        if len(records) < PAGE:
            return found
