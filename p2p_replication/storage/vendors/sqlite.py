"""SQLite: one writer at a time for the whole file, and columns that hold whatever was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.replica import Applying
from p2p_replication.storage.codecs import FieldCodec
from p2p_replication.storage.codecs_sqlite import codec_for
from p2p_replication.storage.vendors import Condition

MARKER = Applying._meta.db_table


class SQLite:
    # SQLite's clock has no finer step.
    now_ms = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"
    begin_snapshot = "BEGIN"
    has_one_write_lock = True
    position = "instr"

    def prepare(self, connection: BaseDatabaseWrapper) -> None:
        # The default, DEFERRED, can fail at its first write, whatever the time-out (STYLE, trap 14).
        connection.transaction_mode = "IMMEDIATE"  # type: ignore[attr-defined]
        read_any_text(connection)
        with connection.cursor() as cursor:
            # Posting must be durable before a dot leaves the house.
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA busy_timeout=20000")

    def prepare_reading(self, connection: BaseDatabaseWrapper) -> None:
        read_any_text(connection)

    def begin_writing(self, connection: BaseDatabaseWrapper, *, frozen: bool = False) -> None:
        """BEGIN IMMEDIATE has taken the one lock there is."""

    def end_writing(self, connection: BaseDatabaseWrapper) -> None:
        """The commit itself checks."""

    # A row in a table, written and removed within the transaction, is seen by its triggers only and goes with a
    # rollback; anything held by the connection would be unknown to the triggers of other clients.

    def begin_unlogged(self, connection: BaseDatabaseWrapper) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {MARKER} (id) VALUES (1)")

    def end_unlogged(self, connection: BaseDatabaseWrapper) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {MARKER}")

    def is_unlogged(self, connection: BaseDatabaseWrapper) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {MARKER})")
            return bool(cursor.fetchone()[0])

    def lock_ledger(self, connection: BaseDatabaseWrapper) -> None:
        """Who writes has the one lock there is."""

    def lock_table(self, connection: BaseDatabaseWrapper, table: str) -> None:
        """Who writes has the one lock there is."""

    def differs(self, one: str, other: str) -> str:
        return f"({one} IS NOT {other} COLLATE BINARY OR typeof({one}) <> typeof({other}))"

    def codec_for(self, field: models.Field[Any, Any]) -> FieldCodec:
        return codec_for(field)

    def key_text(self, column: str) -> str:
        return column

    def key_value(self, text: str, kind: str) -> str:
        return text

    def verbatim(self, column: str) -> str:
        return f"+{column}"

    def stored_name(self, name: str) -> str:
        return name

    def columns(self, connection: BaseDatabaseWrapper, table: str) -> list[str]:
        with connection.cursor() as cursor:
            # Django's own introspection parses the table's SQL as well, which takes most of the time.
            cursor.execute(f"PRAGMA table_xinfo({connection.ops.quote_name(table)})")
            return [record[1] for record in cursor.fetchall() if not record[6]]

    def may_be_null(self, connection: BaseDatabaseWrapper, table: str, column: str) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA table_xinfo({connection.ops.quote_name(table)})")
            return any(record[1] == column and not record[3] for record in cursor.fetchall())

    def is_unique(self, connection: BaseDatabaseWrapper, table: str, column: str) -> bool:
        quote = connection.ops.quote_name
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA index_list({quote(table)})")
            for _, index, unique, _, partial in cursor.fetchall():
                if unique and not partial:
                    cursor.execute(f"PRAGMA index_info({quote(index)})")
                    if [record[2] for record in cursor.fetchall()] == [column]:
                        return True
        return False

    def cast_of(self, connection: BaseDatabaseWrapper, table: str, column: str) -> str:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA table_xinfo({connection.ops.quote_name(table)})")
            kind = next((record[2].lower() for record in cursor.fetchall() if record[1] == column), "")
        return kind if kind in ("decimal", "real") else ""

    def lock_rows(
        self, connection: BaseDatabaseWrapper, table: str, key_text: str, condition: Condition, keys: Sequence[str]
    ) -> set[str]:
        return set(keys)  # The database is locked as a whole.

    def insert(
        self, cursor: Any, table: str, columns: Sequence[str], records: Sequence[Sequence[Any]], conflict: str = ""
    ) -> int:
        marks = ", ".join(["%s"] * len(columns))
        cursor.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) {conflict}", records)
        return int(cursor.rowcount)

    def next_numbers(self, connection: BaseDatabaseWrapper, table: str, column: str, count: int) -> list[int]:
        quote = connection.ops.quote_name
        with connection.cursor() as cursor:
            # The second: numbers of rows that are gone are not given again.
            cursor.execute(f"SELECT COALESCE(MAX({quote(column)}), 0) FROM {quote(table)}")
            last = int(cursor.fetchone()[0])
            cursor.execute("SELECT MAX(seq) FROM sqlite_sequence WHERE name = %s", [table])
            last = max(last, cursor.fetchone()[0] or 0)
        return list(range(last + 1, last + 1 + count))

    def note_growth(self, connection: BaseDatabaseWrapper, table: str, rows: int) -> None:
        """The planner takes a unique index where there is one, however large the table."""

    def is_busy(self, error: BaseException) -> bool:
        return False


def read_any_text(connection: BaseDatabaseWrapper) -> None:
    """Let a connection give text that is no UTF-8 as bytes: SQLite takes any, and one row must not stop all others."""
    connection.ensure_connection()
    connection.connection.text_factory = _text_or_bytes


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
