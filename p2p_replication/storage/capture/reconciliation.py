"""Finding what no trigger saw: a table is compared with its ledger, row by row, and differences become changes.

The differences go into the change log as ordinary local writes, so that posting does the rest. A row that was there
before replication gets the oldest clock of all; one that differs gets the time of the discovery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.ledger import ChangeLogEntry, EntryStatus, FieldLayout, Operation, Stream
from p2p_replication.protocol.row_state import same_value
from p2p_replication.storage.digests import differing, field_digests
from p2p_replication.storage.ledger import TABLE
from p2p_replication.storage.posting import BLOCK_BITS
from p2p_replication.storage.table import ModelTable
from p2p_replication.storage.vendors import vendor_of

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
    table.vendor.prepare_reading(connection)
    adopted = _log_missing(
        connection, stream, Operation.ADOPT,
        f"SELECT {table.key_text('t')} FROM {table.name} t WHERE NOT EXISTS "
        f"(SELECT 1 FROM {TABLE} l WHERE l.stream = %s AND l.key = {table.key_text('t')} AND l.status <> %s)",
        [stream.pk, EntryStatus.DELETED.value],
    )  # fmt: skip
    gone = _log_missing(
        connection, stream, Operation.DELETE,
        f"SELECT l.key FROM {TABLE} l WHERE l.stream = %s AND l.status = %s AND NOT EXISTS "
        f"(SELECT 1 FROM {table.name} t WHERE {table.has_key('t', 'l.key')})",
        [stream.pk, EntryStatus.PRESENT.value],
    )  # fmt: skip
    return Reconciled(adopted, _log_different(connection, stream, table), gone)


def _log_missing(
    connection: BaseDatabaseWrapper, stream: Stream, operation: Operation, keys: str, params: list[Any]
) -> int:
    now = vendor_of(connection).now_ms
    with connection.cursor() as cursor:
        cursor.execute(
            # INSERT comes first: sqlite3 counts the rows of statements that begin so, and no others.
            f"INSERT INTO {LOG} (stream, layout, key, operation, columns, block, wall) "
            f"WITH k(key) AS ({keys}), p(key) AS (SELECT key FROM {LOG} WHERE stream = {stream.pk}) "
            f"SELECT {stream.pk}, {stream.layout_id}, k.key, {operation.value}, 0, 0, {now} FROM k "
            "WHERE k.key NOT IN (SELECT key FROM p)",
            params,
        )
        return max(int(cursor.rowcount), 0)


def _log_different(connection: BaseDatabaseWrapper, stream: Stream, table: ModelTable) -> int:
    """Log the rows whose content differs from their digest, field by field."""
    layouts = {layout.pk: tuple(layout.fields) for layout in FieldLayout.objects.using(connection.alias).all()}
    current = layouts[stream.layout_id] if stream.layout_id else table.names
    made_up: dict[str, Any] | None = None
    found = 0
    last = 0
    while True:
        with connection.cursor() as cursor:
            values = table.select_list("t")
            cursor.execute(
                f"SELECT l.id, l.key, l.layout, l.digest{', ' + values if values else ''} FROM {TABLE} l "
                f"JOIN {table.name} t ON {table.has_key('t', 'l.key')} "
                "WHERE l.stream = %s AND l.status = %s AND l.id > %s AND l.key NOT IN "
                f"(SELECT key FROM {LOG} WHERE stream = %s) ORDER BY l.id LIMIT %s",
                [stream.pk, EntryStatus.PRESENT.value, last, stream.pk, PAGE],
            )
            records = cursor.fetchall()
            if made_up is None:
                # Only where a row lacks a field: finding them out costs some 30 ms a field.
                is_needed = any(record[2] != stream.layout_id for record in records)
                made_up = _made_up_values(connection, table) if is_needed else None
            for record in records:
                last = record[0]
                row = dict(zip(table.names, table.wire_row(record[4:]), strict=True))
                fields = layouts.get(record[2], ())
                now = field_digests([row.get(name) for name in fields])
                names = {fields[i] for i in differing(bytes(record[3]), now) if i < len(fields)} & row.keys()
                # A field that is new to the row: what the migration made up for all rows is nobody's write.
                names |= {
                    name
                    for name, value in (made_up or {}).items()
                    if name not in fields and not same_value(row[name], value)
                }
                bits = [current.index(name) for name in names if name in current]
                found += bool(bits)
                for block in sorted({bit // BLOCK_BITS for bit in bits}):
                    bitmap = sum(1 << (bit % BLOCK_BITS) for bit in bits if bit // BLOCK_BITS == block)
                    cursor.execute(
                        f"INSERT INTO {LOG} (stream, layout, key, operation, columns, block, wall) "
                        f"SELECT %s, %s, %s, %s, %s, %s, {table.vendor.now_ms}",
                        [stream.pk, stream.layout_id, record[1], Operation.ADOPT.value, bitmap, block],
                    )
        if len(records) < PAGE:
            return found


def _made_up_values(connection: BaseDatabaseWrapper, table: ModelTable) -> dict[str, Any]:
    """Return what a migration that added a field has put into it, by field: its default, in wire form.

    A callable's value of that time is not known any more: then it is what all rows have alike, if they do.
    """
    made_up: dict[str, Any] = {}
    for name, codec in table.codecs.items():
        field = table.options.model._meta.get_field(name)
        assert isinstance(field, models.Field)
        one_for_all = field.has_default() and callable(field.default)
        if not one_for_all and field.db_default is models.NOT_PROVIDED:
            raw = field.get_db_prep_save(field.get_default(), connection)
            made_up[name] = stored_form(connection, table, name, raw)
            continue
        with connection.cursor() as cursor:
            column = codec.select.format(table.quoted(codec.column))
            cursor.execute(f"SELECT DISTINCT {column} FROM {table.name} LIMIT 2", [])
            values = cursor.fetchall()
        if len(values) == 1:
            raw = values[0][0]
            made_up[name] = codec.to_wire(raw) if codec.to_wire and raw is not None else raw
    return made_up


def stored_form(connection: BaseDatabaseWrapper, table: ModelTable, name: str, value: Any) -> Any:
    """Return the wire form of a value as the column would hold it, which may change it."""
    codec = table.codecs[name]
    kind = table.vendor.cast_of(connection, table.options.model._meta.db_table, codec.column)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {codec.select.format(f'CAST(%s AS {kind})' if kind else '%s')}", [value])
        raw = cursor.fetchone()[0]
    return codec.to_wire(raw) if codec.to_wire and raw is not None else raw
