"""Capture triggers for PostgreSQL: one call a statement, which appends what its rows have become to the change log."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.ledger import BLOCK_BITS, ChangeLogEntry, Operation
from p2p_replication.storage.capture.compiler import CaptureTarget, Trigger, is_ours, key_of, named, same_key
from p2p_replication.storage.capture.compiler import quoted as _q
from p2p_replication.storage.posting import RENAMED
from p2p_replication.storage.vendors.postgresql import APPLYING, PostgreSQL

LOG = ChangeLogEntry._meta.db_table
#: Who listens here is told of every commit that has captured something.
NOTIFY_CHANNEL = "p2p_replication"

# Whoever may write to the table is captured, whatever it may do with the log: hence SECURITY DEFINER, and no name is
# looked up where the caller says. Without nested loops, as the plan of the first call, for one row, serves all later.
# ALWAYS: also where session_replication_role turns triggers off; and after DISABLE and ENABLE it is ALWAYS no more, so
# that the time between is noticed.
_FUNCTION = """CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $p2p${body}$p2p$;
REVOKE ALL ON FUNCTION {name}() FROM PUBLIC;
{trigger};
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {quoted};"""
_BODY = """
DECLARE wall bigint := {now};
BEGIN
  IF current_setting('{applying}', true) = 'on' THEN RETURN NULL; END IF;
  INSERT INTO {log} (stream, layout, key, operation, columns, block, wall)
  {rows};
  IF FOUND THEN PERFORM pg_notify('{channel}', ''); END IF;
  RETURN NULL;
END
"""
_NEW, _OLD = "REFERENCING NEW TABLE AS new_rows", "REFERENCING OLD TABLE AS old_rows"


def triggers(connection: BaseDatabaseWrapper, target: CaptureTarget) -> list[Trigger]:
    """Return the triggers that capture every write to the target."""
    log, table = _qualified(connection, LOG), _qualified(connection, target.table)
    found = []
    for kind, event, rows in _parts(target, table):
        body = _BODY.format(
            now=PostgreSQL.now_ms, applying=APPLYING, log=log, rows=rows, channel=NOTIFY_CHANNEL
        )  # fmt: skip
        name = named(kind, target.table, f"{event} {body}")
        function = table.removesuffix(_q(target.table)) + _q(name)
        trigger = (
            f"CREATE TRIGGER {_q(name)} {event.format(table=table)} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )
        sql = _FUNCTION.format(name=function, body=body, trigger=trigger, table=table, quoted=_q(name))
        found.append(Trigger(name, target.table, sql, body))
    return found


def installed(connection: BaseDatabaseWrapper, table: str) -> dict[str, str]:
    """Return our triggers on a table, ``{name: the function's body}``; of one that is or was disabled, no body."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.tgname, CASE WHEN t.tgenabled = 'A' THEN p.prosrc ELSE '' END FROM pg_trigger t "
            "JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = to_regclass(%s) AND NOT t.tgisinternal",
            [_q(table)],
        )
        return {name: body for name, body in cursor.fetchall() if is_ours(name)}


def all_installed(connection: BaseDatabaseWrapper) -> dict[str, str]:
    """Return all our triggers in the database: ``{name: table}``; the table may be gone."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.proname, COALESCE(c.relname, '') FROM pg_proc p LEFT JOIN pg_trigger t ON t.tgfoid = p.oid "
            "LEFT JOIN pg_class c ON c.oid = t.tgrelid WHERE starts_with(p.proname, 'p2p_') "
            "AND pg_function_is_visible(p.oid)",
            [],
        )
        return {name: table for name, table in cursor.fetchall() if is_ours(name)}


def drop(connection: BaseDatabaseWrapper, name: str, table: str) -> None:
    """Drop one of our triggers, with its function."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP FUNCTION IF EXISTS {_q(name)}() CASCADE", None)
        if table:
            cursor.execute(f"DROP TRIGGER IF EXISTS {_q(name)} ON {_q(table)}", None)


def unique_columns(connection: BaseDatabaseWrapper, table: str) -> list[tuple[str, ...]]:
    """Return nothing: no write of PostgreSQL's evicts another row."""
    return []


def _parts(target: CaptureTarget, table: str) -> Iterator[tuple[str, str, str]]:
    """Yield ``(kind, event, the rows to append)`` of each trigger."""
    insert, delete = Operation.INSERT.value, Operation.DELETE.value
    stays = same_key(target, "n", "o", "=")
    yield "ins", f"AFTER INSERT ON {{table}} {_NEW}", _rows(target, "n", insert, "new_rows n")
    yield "del", f"AFTER DELETE ON {{table}} {_OLD}", _rows(target, "o", delete, "old_rows o")
    gone = f"old_rows o WHERE NOT EXISTS (SELECT 1 FROM new_rows n WHERE {stays})"
    come = f"new_rows n WHERE NOT EXISTS (SELECT 1 FROM old_rows o WHERE {same_key(target, 'o', 'n', '=')})"
    parts = [_rows(target, "o", delete, gone), _rows(target, "n", insert, come)]
    if target.columns:
        blocks = ", ".join(f"({block}, {bitmap})" for block, bitmap in _bitmaps(target))
        parts.append(
            _rows(
                target,
                "n",
                Operation.UPDATE.value,
                f"old_rows o JOIN new_rows n ON {stays} "
                f"CROSS JOIN LATERAL (VALUES {blocks}) b(block, columns) WHERE b.columns <> 0",
                "b.columns, b.block",
            )
        )
    if target.local:
        local = _q(target.local)
        renamed = f"old_rows o JOIN new_rows n ON n.{local} = o.{local} WHERE NOT ({stays})"
        parts.append(_rows(target, "n", RENAMED, renamed))
    yield "upd", f"AFTER UPDATE ON {{table}} {_OLD} {_NEW.removeprefix('REFERENCING ')}", " UNION ALL ".join(parts)
    # Before, as afterwards nobody knows what was there. In ``flush`` the log is emptied with everything else.
    yield "tru", "BEFORE TRUNCATE ON {table}", _rows(target, "t", delete, f"{table} t")


def _bitmaps(target: CaptureTarget) -> Iterator[tuple[int, str]]:
    """Yield the changed-column bitmap of each block.

    ``*<>`` compares the bytes of any type, whatever it takes for equal; it knows records only.
    """
    for block in range((len(target.columns) + BLOCK_BITS - 1) // BLOCK_BITS):
        columns = target.columns[block * BLOCK_BITS : (block + 1) * BLOCK_BITS]
        bits = [
            f"((ROW(o.{c})::record *<> ROW(n.{c})::record)::int::bigint << {i})" for i, c in enumerate(map(_q, columns))
        ]
        yield block, " | ".join(bits)


def _rows(target: CaptureTarget, row: str, operation: int, source: str, bitmap: str = "0, 0") -> str:
    key = key_of(target, f"{row}.{{}}::text")
    return f"SELECT {target.stream}, {target.layout}, {key}, {operation}, {bitmap}, wall FROM {source}"


def _qualified(connection: BaseDatabaseWrapper, table: str) -> str:
    """Return the quoted name of a table with its schema."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.oid = to_regclass(%s)",
            [_q(table)],
        )
        return f"{cursor.fetchone()[0]}.{_q(table)}"
