"""PostgreSQL: rows have locks of their own, and whoever replicates yields to the application."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from django.db import DatabaseError, DataError, OperationalError, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.storage.codecs import FieldCodec
from p2p_replication.storage.codecs_postgresql import codec_for
from p2p_replication.storage.vendors import Condition

#: The ledger's lock: one poster or applier at a time (an arbitrary number, "p2p" in ASCII).
LEDGER_LOCK = 0x703270
#: Far shorter than ``deadlock_timeout`` (1 s), after which whoever waits looks for a deadlock and ends its own
#: transaction: so the worker gives way, and never the application (docs/how-it-works.md).
LOCK_TIMEOUT = "100ms"
#: Another process of ours (``p2p rescan``) may hold the ledger's lock for long.
LEDGER_LOCK_TIMEOUT = "60s"
#: Values in one statement: below the limit of 65,535 that bound parameters have.
MAX_VALUES = 30_000
#: Whatever the project has set for its own connections. The application's commits have to be seen as they come, by each
#: statement anew; posting must be durable before a dot leaves the house; a slow statement is no reason to give up.
BEGIN_WRITING = (
    "SET TRANSACTION ISOLATION LEVEL {}; SET LOCAL synchronous_commit = on; "
    f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{LEDGER_LOCK_TIMEOUT}'; "
    f"SELECT pg_advisory_xact_lock({LEDGER_LOCK}); SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
)
#: Longer names are cut off there, without an error.
NAME_BYTES = 63
#: The variable that tells the triggers "this is the applier"; it lives no longer than the transaction.
APPLYING = "p2p_replication.applying"

#: lock_not_available, deadlock_detected, serialization_failure
_BUSY = {"55P03", "40P01", "40001"}
#: SQL types of keys, by wire type (of a key that is a foreign key: the last word).
_KEY_CASTS = {"uuid": "::uuid"}
#: Kinds of values whose JSON is what the server reads as the same value.
_PLAIN = {str, int, bool, type(None)}

logger = logging.getLogger("p2p_replication.storage")

_encode = msgspec.json.Encoder().encode


class PostgreSQL:
    now_ms = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint"
    begin_snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0"
    has_one_write_lock = False
    position = "strpos"

    def prepare(self, connection: BaseDatabaseWrapper) -> None:
        """Nothing is set for longer than a transaction: behind a pooler the session is the application's as well."""

    def prepare_reading(self, connection: BaseDatabaseWrapper) -> None:
        """Its columns hold what their types allow."""

    def begin_writing(self, connection: BaseDatabaseWrapper, *, frozen: bool = False) -> None:
        with connection.cursor() as cursor:
            cursor.execute(BEGIN_WRITING.format("REPEATABLE READ" if frozen else "READ COMMITTED"))

    def end_writing(self, connection: BaseDatabaseWrapper) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def begin_unlogged(self, connection: BaseDatabaseWrapper) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL {APPLYING} = 'on'")

    def end_unlogged(self, connection: BaseDatabaseWrapper) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL {APPLYING} = 'off'")

    def is_unlogged(self, connection: BaseDatabaseWrapper) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT coalesce(current_setting('{APPLYING}', true), '') = 'on'")
            return bool(cursor.fetchone()[0])

    def lock_ledger(self, connection: BaseDatabaseWrapper) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_xact_lock({LEDGER_LOCK})")

    def lock_table(self, connection: BaseDatabaseWrapper, table: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE", [])

    def differs(self, one: str, other: str) -> str:
        return f"{one} IS DISTINCT FROM {other}"

    def codec_for(self, field: models.Field[Any, Any]) -> FieldCodec:
        return codec_for(field)

    def key_text(self, column: str) -> str:
        return f"{column}::text"

    def key_value(self, text: str, kind: str) -> str:
        return text + _KEY_CASTS.get(kind.rpartition(" ")[2], "")

    def verbatim(self, column: str) -> str:
        return f"{column}::text"

    def stored_name(self, name: str) -> str:
        return name.encode()[:NAME_BYTES].decode(errors="ignore")

    def columns(self, connection: BaseDatabaseWrapper, table: str) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 "
                "AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
                [connection.ops.quote_name(table)],
            )
            return [record[0] for record in cursor.fetchall()]

    def may_be_null(self, connection: BaseDatabaseWrapper, table: str, column: str) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT NOT attnotnull FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s",
                [connection.ops.quote_name(table), column],
            )
            return bool(cursor.fetchone()[0])

    def is_unique(self, connection: BaseDatabaseWrapper, table: str, column: str) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT EXISTS (SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
                "AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass(%s) AND a.attname = %s AND i.indisunique "
                "AND i.indisvalid AND i.indnkeyatts = 1 AND i.indpred IS NULL)",
                [connection.ops.quote_name(table), column],
            )
            return bool(cursor.fetchone()[0])

    def cast_of(self, connection: BaseDatabaseWrapper, table: str, column: str) -> str:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass(%s) "
                "AND attname = %s",
                [connection.ops.quote_name(table), self.stored_name(column)],
            )
            return str(cursor.fetchone()[0])

    def lock_rows(
        self, connection: BaseDatabaseWrapper, table: str, key_text: str, condition: Condition, keys: Sequence[str]
    ) -> set[str]:
        if not keys:
            return set()
        wanted, params = condition("l", keys)
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {key_text} FROM {table} l WHERE {wanted} ORDER BY 1 FOR NO KEY UPDATE SKIP LOCKED",
                params,
            )
            return {record[0] for record in cursor.fetchall()}

    def insert(
        self, cursor: Any, table: str, columns: Sequence[str], records: Sequence[Sequence[Any]], conflict: str = ""
    ) -> int:
        into = f"INSERT INTO {table} ({', '.join(columns)})"
        names = [f"c{i}" for i in range(len(columns))]
        types = self._types(cursor, table, columns)
        known = [types.get(column, "") for column in columns]
        # One parameter for all rows: with one a value, finding them in the statement takes longer than all the rest.
        source = f"json_to_recordset(%s) r({', '.join(f'{name} text' for name in names)})"
        values = ", ".join(f"{name}::{kind}" for name, kind in zip(names, known, strict=True))
        one = f"({', '.join(['%s'] * len(columns))})"
        size = max(1, min(500, MAX_VALUES // max(len(columns), 1)))
        inserted = 0
        for start in range(0, len(records), size):
            chunk = records[start : start + size]
            # The server itself says what is wrong with a column that is not there.
            text = _as_json(names, chunk) if all(known) else None
            if text is not None:
                cursor.execute(f"{into} SELECT {values} FROM {source} {conflict}", [text])
            else:
                params = [value for record in chunk for value in record]
                cursor.execute(f"{into} VALUES {', '.join([one] * len(chunk))} {conflict}", params)
            inserted += int(cursor.rowcount)
        return inserted

    def _types(self, cursor: Any, table: str, columns: Sequence[str]) -> dict[str, str]:
        """Return the SQL types of columns (quoted, as is the table), without limits: a cast would cut values off there.

        Asked each time, as a migration may change them under an open connection.
        """
        cursor.execute(
            "SELECT attname, format_type(atttypid, -1) FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            [table.replace("%%", "%")],
        )
        types = dict(cursor.fetchall())
        plain = {column: column.replace("%%", "%").removeprefix('"').removesuffix('"') for column in columns}
        stored = {column: self.stored_name(name.replace('""', '"')) for column, name in plain.items()}
        return {column: types[name] for column, name in stored.items() if name in types}

    def next_numbers(self, connection: BaseDatabaseWrapper, table: str, column: str, count: int) -> list[int]:
        quoted = connection.ops.quote_name(table)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_get_serial_sequence(%s, attname), pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a "
                "LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
                "WHERE a.attrelid = to_regclass(%s) AND a.attname = %s",
                [quoted, quoted, self.stored_name(column)],
            )
            sequence, default = cursor.fetchone()
            if sequence is None and default is None:
                raise DataError(f"{table}.{column} has no default: nothing gives new rows a primary key")
            number = default.replace("%", "%%") if default else "nextval(%s)"
            cursor.execute(f"SELECT {number} FROM generate_series(1, %s)", [count] if default else [sequence, count])
            return [int(record[0]) for record in cursor.fetchall()]

    def note_growth(self, connection: BaseDatabaseWrapper, table: str, rows: int) -> None:
        # Until this is done the server takes each model for some dozen rows, and reads all of them for each batch. Its
        # own autovacuum comes a minute later, or more: after the first sync.
        try:
            with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
                cursor.execute("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [table])
                if cursor.fetchone()[0] < rows / 2:
                    cursor.execute(f"ANALYZE (SKIP_LOCKED) {table}")
        except DatabaseError as error:
            logger.warning("the planner's statistics of %s could not be brought up to date: %s", table, error)

    def is_busy(self, error: BaseException) -> bool:
        return isinstance(error, OperationalError) and getattr(error.__cause__, "sqlstate", None) in _BUSY


def _as_json(names: Sequence[str], records: Sequence[Sequence[Any]]) -> str | None:
    """Return records as a JSON list of objects; None if a value is of a kind that is not the same in JSON."""
    rows = []
    for record in records:
        row = {}
        for name, value in zip(names, record, strict=True):
            if type(value) is bytes:
                row[name] = f"\\x{value.hex()}"
            elif type(value) in _PLAIN:
                row[name] = value
            else:
                return None
        rows.append(row)
    try:
        return _encode(rows).decode()
    except OverflowError:
        return None
