"""Do two database files hold the same rows? ``python demo_project/digest.py a.sqlite3 b.sqlite3 [table ...]``

Uses nothing but sqlite3 and the two files: it shares no code with what it judges. Every row counts with all its
columns, each value with its storage class (1 is not 1.0 and not '1'); the order of rows and columns does not. Of a
many-to-many table the rows' own numbers don't count: each database gives its own.

Exit code 0: equal. 1: different, and the first differences are printed. 2: a file or a table can't be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import sys

TABLES = ["survey_place", "survey_observation", "survey_tag", "survey_observation_tags"]
#: Columns that each database fills by itself.
LOCAL_COLUMNS = {"survey_observation_tags": {"id"}}
SHOWN_DIFFERENCES = 5


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    files, tables = arguments[:2], arguments[2:] or TABLES
    try:
        a, b = (rows_of_tables(file, tables) for file in files)
    except sqlite3.Error as error:
        print(f"can't compare {files[0]} and {files[1]}: {error}", file=sys.stderr)
        return 2
    for table in tables:
        same = a[table] == b[table]
        print(f"{table}: {digest(a[table])} ({len(a[table])} rows) {'==' if same else '!='} ", end="")
        print(f"{digest(b[table])} ({len(b[table])} rows)")
        if not same:
            print_differences(a[table], b[table])
    return 0 if a == b else 1


def rows_of_tables(file: str, tables: list[str]) -> dict[str, list[str]]:
    """All rows as text, sorted, by table; read in one transaction, so that they belong together."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=20)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN")
        return {table: rows_of_table(connection, table) for table in tables}


def rows_of_table(connection: sqlite3.Connection, table: str) -> list[str]:
    columns = sorted(
        {row[1] for row in connection.execute(f"PRAGMA table_info({quoted(table)})")} - LOCAL_COLUMNS.get(table, set())
    )
    if not columns:
        raise sqlite3.OperationalError(f"there is no table {table}")
    parts = ", ".join(f"typeof({quoted(column)}), {quoted(column)}" for column in columns)
    rows = connection.execute(f"SELECT {parts} FROM {quoted(table)}")
    return sorted(repr([(column, row[2 * at], row[2 * at + 1]) for at, column in enumerate(columns)]) for row in rows)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def digest(rows: list[str]) -> str:
    """Of the sorted rows; repr() escapes line ends, so no two lists of rows give the same text."""
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def print_differences(a: list[str], b: list[str]) -> None:
    for name, only in (("first", sorted(set(a) - set(b))), ("second", sorted(set(b) - set(a)))):
        for row in only[:SHOWN_DIFFERENCES]:
            print(f"  only in the {name}: {row}")
        if len(only) > SHOWN_DIFFERENCES:
            print(f"  ... and {len(only) - SHOWN_DIFFERENCES} more only in the {name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
