"""Finding what no trigger saw: a table is compared with its ledger, row by row, and differences become changes.

The differences go into the change log as ordinary local writes, so that posting does the rest. A row that was there
before replication gets the oldest clock of all; one that differs gets the time of the discovery.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.ledger import BLOCK_BITS, ChangeLogEntry, EntryStatus, FieldLayout, Operation, Stream
from p2p_replication.protocol.row_state import same_value
from p2p_replication.storage.capture.conversions import earlier_forms
from p2p_replication.storage.digests import DIGEST_SIZE, differing, field_digests
from p2p_replication.storage.ledger import TABLE, chunks, marks
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

    What entries in the log say already is left to posting.
    """
    table.vendor.prepare_reading(connection)
    last = f"SELECT MAX(id) FROM {LOG} WHERE stream = {stream.pk} GROUP BY key"
    # A row that came again after a delete that still waits in the log is new as well.
    ended = f"SELECT key FROM {LOG} WHERE operation = {Operation.DELETE.value} AND id IN ({last})"
    # Of a parked row the table may have an older version, whose digest is kept then. Links have nothing to digest.
    known = f"(l.status = {EntryStatus.PRESENT.value} OR (l.status = {EntryStatus.PARKED.value} AND {{}}))"
    in_table = known.format("LENGTH(l.digest) > 0")
    adopted = _log_missing(
        connection, stream, Operation.ADOPT,
        f"SELECT key FROM {LOG} WHERE operation <> {Operation.DELETE.value} AND id IN ({last})",
        f"SELECT {table.key_text('t')} FROM {table.name} t WHERE {table.key_text('t')} IN ({ended}) OR NOT EXISTS "
        f"(SELECT 1 FROM {TABLE} l WHERE l.stream = %s AND l.key = {table.key_text('t')} "
        f"AND {in_table if table.names else known.format('1 = 1')})",
        [stream.pk],
    )  # fmt: skip
    gone = _log_missing(
        connection, stream, Operation.DELETE,
        f"SELECT key FROM {LOG} WHERE stream = {stream.pk} AND operation = {Operation.DELETE.value}",
        f"SELECT l.key FROM {TABLE} l WHERE l.stream = %s AND {in_table} AND NOT EXISTS "
        f"(SELECT 1 FROM {table.name} t WHERE {table.has_key('t', 'l.key')})",
        [stream.pk],
    )  # fmt: skip
    return Reconciled(adopted, _log_different(connection, stream, table, in_table), gone)


def _log_missing(
    connection: BaseDatabaseWrapper, stream: Stream, operation: Operation, but: str, keys: str, params: list[Any]
) -> int:
    now = vendor_of(connection).now_ms
    with connection.cursor() as cursor:
        cursor.execute(
            # INSERT comes first: sqlite3 counts the rows of statements that begin so, and no others.
            f"INSERT INTO {LOG} (stream, layout, key, operation, columns, block, wall) "
            f"WITH k(key) AS ({keys}), p(key) AS ({but}) "
            f"SELECT {stream.pk}, {stream.layout_id}, k.key, {operation.value}, 0, 0, {now} FROM k "
            "WHERE k.key NOT IN (SELECT key FROM p)",
            params,
        )
        return max(int(cursor.rowcount), 0)


def _log_different(connection: BaseDatabaseWrapper, stream: Stream, table: ModelTable, in_table: str) -> int:
    """Log the rows whose content differs from their digest, field by field."""
    layouts = {layout.pk: tuple(layout.fields) for layout in FieldLayout.objects.using(connection.alias).all()}
    # Only where they matter: finding them out costs some 30 ms a field.
    made_up = cache(partial(_made_up_values, connection, table))
    found = 0
    last = 0
    while True:
        with connection.cursor() as cursor:
            values = table.select_list("t")
            cursor.execute(
                f"SELECT l.id, l.key, l.layout, l.digest{', ' + values if values else ''} FROM {TABLE} l "
                f"JOIN {table.name} t ON {table.has_key('t', 'l.key')} "
                f"WHERE l.stream = %s AND {in_table} AND l.id > %s ORDER BY l.id LIMIT %s",
                [stream.pk, last, PAGE],
            )
            records = cursor.fetchall()
        table.prepare(records, 4)
        written: dict[str, set[str]] = {}
        for record in records:
            last = record[0]
            row = dict(zip(table.names, table.wire_row(record[4:]), strict=True))
            if names := _differing(table, row, layouts.get(record[2], ()), bytes(record[3]), made_up):
                written[record[1]] = names
        found += _log_fields(connection, stream, layouts, written)
        if len(records) < PAGE:
            return found


def _differing(
    table: ModelTable,
    row: dict[str, Any],
    fields: tuple[str, ...],
    digest: bytes,
    made_up: Callable[[], dict[str, Any]],
) -> set[str]:
    """Return the fields of a row that somebody has written since its digest was taken."""
    now = field_digests([row.get(name) for name in fields])
    changed = [(i, fields[i]) for i in differing(digest, now) if i < len(fields) and fields[i] in row]
    names = {
        name
        for i, name in changed
        if not _is_converted(table, name, row[name], digest[i * DIGEST_SIZE :][:DIGEST_SIZE], made_up)
    }
    # A field that is new to the row: what the migration made up for all rows is nobody's write.
    return names | {name for name in row.keys() - set(fields) if not same_value(row[name], made_up()[name])}


def _is_converted(
    table: ModelTable, name: str, value: Any, digest: bytes, made_up: Callable[[], dict[str, Any]]
) -> bool:
    """Tell whether a migration has only given a value another type, or put a default where no null may be any more."""
    kind = table.codecs[name].wire_type.rpartition(" ")[2].partition("(")[0]
    if any(field_digests([form]) == digest for form in earlier_forms(value, kind)):
        return True
    field = table.options.model._meta.get_field(name)
    return not field.null and field_digests([None]) == digest and same_value(value, made_up()[name])


def _log_fields(
    connection: BaseDatabaseWrapper, stream: Stream, layouts: dict[int, tuple[str, ...]], fields: dict[str, set[str]]
) -> int:
    """Append these fields of these rows to the log, without those that it has already; return the number of rows."""
    current = layouts[stream.layout_id] if stream.layout_id else ()
    found = 0
    with connection.cursor() as cursor:
        for chunk in chunks(list(fields)):
            pending: dict[str, set[str]] = {}
            cursor.execute(
                f"SELECT key, layout, operation, columns, block FROM {LOG} "
                f"WHERE stream = %s AND key IN ({marks(len(chunk))})",
                [stream.pk, *chunk],
            )
            for key, layout, operation, columns, block in cursor.fetchall():
                names = layouts.get(layout, ())[block * BLOCK_BITS :][:BLOCK_BITS]
                written = {name for i, name in enumerate(names) if columns >> i & 1}
                if not columns and operation != Operation.EVICT:
                    written = set(current)  # Posting looks at the whole row.
                pending.setdefault(key, set()).update(written)
            for key in chunk:
                bits = [current.index(name) for name in fields[key] - pending.get(key, set()) if name in current]
                found += bool(bits)
                for block in sorted({bit // BLOCK_BITS for bit in bits}):
                    bitmap = sum(1 << (bit % BLOCK_BITS) for bit in bits if bit // BLOCK_BITS == block)
                    cursor.execute(
                        f"INSERT INTO {LOG} (stream, layout, key, operation, columns, block, wall) "
                        f"SELECT %s, %s, %s, %s, %s, %s, {vendor_of(connection).now_ms}",
                        [stream.pk, stream.layout_id, key, Operation.ADOPT.value, bitmap, block],
                    )
    return found


def _made_up_values(connection: BaseDatabaseWrapper, table: ModelTable) -> dict[str, Any]:
    """Return what a migration that added a field has put into it, by field: its default, in wire form.

    A default that is another one each time (the time, a random id) is not what stands in the rows: replicas have
    different values there, and have to agree on one as on any other that a migration wrote.
    """
    made_up: dict[str, Any] = {}
    for name in table.codecs:
        field = table.options.model._meta.get_field(name)
        assert isinstance(field, models.Field)
        if field.db_default is models.NOT_PROVIDED:
            raw = field.get_db_prep_save(field.get_default(), connection)
            made_up[name] = stored_form(connection, table, name, "%s", [raw])
        else:
            editor = connection.SchemaEditorClass(connection)
            sql, params = editor.db_default_sql(field)  # type: ignore[attr-defined]
            made_up[name] = stored_form(connection, table, name, sql, list(params) or None)
    return made_up


def stored_form(
    connection: BaseDatabaseWrapper, table: ModelTable, name: str, sql: str, params: list[Any] | None
) -> Any:
    """Return the wire form of an expression's value as the column would hold it, which may change it."""
    codec = table.codecs[name]
    kind = table.vendor.cast_of(connection, table.options.model._meta.db_table, codec.column)
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + codec.select.replace("{}", f"CAST({sql} AS {kind})" if kind else sql), params)
        raw = cursor.fetchone()[0]
    return codec.to_wire(raw) if codec.to_wire and raw is not None else raw
