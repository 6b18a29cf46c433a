"""Capture triggers for SQLite: each only appends to the change log, in the writer's transaction."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.ledger import BLOCK_BITS, ChangeLogEntry, Operation
from p2p_replication.storage.capture.compiler import CaptureTarget, Trigger, is_ours, key_of, named, same_key
from p2p_replication.storage.capture.compiler import quoted as _q
from p2p_replication.storage.posting import RENAMED
from p2p_replication.storage.vendors.sqlite import MARKER, SQLite

LOG = ChangeLogEntry._meta.db_table
NOW = SQLite.now_ms
#: The applier's writes are not logged: its marker exists only inside its own transaction. A trigger must not call
#: a function that a connection registers, and must not name a table of the temp schema.
NOT_APPLYING = f"NOT EXISTS (SELECT 1 FROM {MARKER})"


def triggers(connection: BaseDatabaseWrapper, target: CaptureTarget) -> list[Trigger]:
    """Return the triggers that capture every write to the target."""
    return [_trigger(target, kind, event, condition, body) for kind, event, condition, body in _parts(target)]


def installed(connection: BaseDatabaseWrapper, table: str) -> dict[str, str]:
    """Return our triggers on a table as the database has them: ``{name: SQL}``."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s", [table])
        return {name: sql for name, sql in cursor.fetchall() if is_ours(name)}


def all_installed(connection: BaseDatabaseWrapper) -> dict[str, str]:
    """Return all our triggers in the database: ``{name: table}``."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'")
        return {name: table for name, table in cursor.fetchall() if is_ours(name)}


def drop(connection: BaseDatabaseWrapper, name: str, table: str) -> None:
    """Drop one of our triggers."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER IF EXISTS {_q(name)}", None)


def unique_columns(connection: BaseDatabaseWrapper, table: str) -> list[tuple[str, ...]]:
    """Return the column sets of the unique indexes of a table, without those over expressions."""
    quote = connection.ops.quote_name
    found = []
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA index_list({quote(table)})")
        indexes = [record[1] for record in cursor.fetchall() if record[2]]
        for index in indexes:
            cursor.execute(f"PRAGMA index_info({quote(index)})")
            columns = tuple(record[2] for record in cursor.fetchall())
            if all(columns):
                found.append(columns)
    return sorted(set(found))


def _trigger(target: CaptureTarget, kind: str, event: str, condition: str, body: str) -> Trigger:
    text = f"{event} ON {_q(target.table)} WHEN {condition} AND {NOT_APPLYING} BEGIN {body} END"
    name = named(kind, target.table, text)
    sql = f"CREATE TRIGGER {_q(name)} {text}"
    return Trigger(name, target.table, sql, sql)


def _parts(target: CaptureTarget) -> Iterator[tuple[str, str, str, str]]:
    """Yield ``(kind, event, condition, body)`` of each trigger."""
    insert, delete = Operation.INSERT.value, Operation.DELETE.value
    stays, moves = same_key(target, "OLD", "NEW", "IS"), _other_key(target, "OLD", "NEW")
    yield "ins", "AFTER INSERT", "1", _append(target, "NEW", insert)
    yield "del", "AFTER DELETE", "1", _append(target, "OLD", delete)
    moved = _append(target, "OLD", delete) + " " + _append(target, "NEW", insert)
    if target.local:
        moved += " " + _append(target, "NEW", RENAMED)
    yield "key", f"AFTER UPDATE OF {', '.join(map(_q, target.key))}", moves, moved
    for block in range((len(target.columns) + BLOCK_BITS - 1) // BLOCK_BITS):
        columns = target.columns[block * BLOCK_BITS : (block + 1) * BLOCK_BITS]
        changes = [_differs(_q(column)) for column in columns]
        bitmap = " | ".join(f"({change} << {i})" for i, change in enumerate(changes))
        condition = f"{stays} AND ({' OR '.join(changes)})"
        body = _append(target, "NEW", Operation.UPDATE.value, bitmap, block)
        yield f"upd{block}", f"AFTER UPDATE OF {', '.join(map(_q, columns))}", condition, body
    yield from _evictions(target)


def _differs(column: str) -> str:
    """Compare by content and type, not by the column's collation: ABC is not abc, whatever NOCASE says."""
    return f"(OLD.{column} IS NOT NEW.{column} COLLATE BINARY OR typeof(OLD.{column}) <> typeof(NEW.{column}))"


def _evictions(target: CaptureTarget) -> Iterator[tuple[str, str, str, str]]:
    """INSERT OR REPLACE evicts rows by unique values without any delete trigger: log who may go, before it happens.

    The conflict may also end otherwise (OR IGNORE, an upsert, an error): posting looks whether the row is gone.
    """
    sets = [columns for columns in target.unique if set(columns) != set(target.key)]
    if target.local:
        sets.append((target.local,))  # No index says that it is unique.
    if not sets:
        return
    matches = " OR ".join(
        "(" + " AND ".join(f"t.{_q(column)} = NEW.{_q(column)}" for column in columns) + ")" for columns in sets
    )
    others = f"FROM {_q(target.table)} t WHERE ({matches}) AND {_other_key(target, 't', 'NEW')}"
    body = _append(target, "t", Operation.EVICT.value, source=others)
    if target.local:
        # Rows that refer to the evicted one refer to the new one from now on.
        same = f"t.{_q(target.local)} = NEW.{_q(target.local)} AND {_other_key(target, 't', 'NEW')}"
        body += " " + _append(target, "NEW", RENAMED, source=f"FROM {_q(target.table)} t WHERE {same}")
    yield "evi", "BEFORE INSERT", f"EXISTS (SELECT 1 {others})", body
    involved = sorted({column for columns in sets for column in columns})
    yield "evu", f"BEFORE UPDATE OF {', '.join(map(_q, involved))}", f"EXISTS (SELECT 1 {others})", body


def _other_key(target: CaptureTarget, one: str, other: str) -> str:
    differ = " OR ".join(f"{one}.{_q(column)} IS NOT {other}.{_q(column)}" for column in target.key)
    return differ if len(target.key) == 1 else f"({differ})"


def _append(
    target: CaptureTarget, row: str, operation: int, columns: str = "0", block: int = 0, source: str = ""
) -> str:
    key = key_of(target, f"CAST({row}.{{}} AS TEXT)")
    return (
        f"INSERT INTO {_q(LOG)} (stream, layout, key, operation, columns, block, wall) "
        f"SELECT {target.stream}, {target.layout}, {key}, {operation}, {columns}, {block}, {NOW}"
        f"{' ' + source if source else ''};"
    )
