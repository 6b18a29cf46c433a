"""The databases of replicas under test: a SQLite file or a PostgreSQL database each, made from a migrated template."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg
from django.conf import settings
from django.db import connections, models

from tests.postgresql import PostgreSQLServer

SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
    },
}


class Database(Protocol):
    """One database, as Django and as anybody else sees it."""

    vendor: str

    def settings(self) -> dict[str, Any]:
        """Return what DATABASES says of it."""

    def connect(self) -> Any:
        """Open a DB-API connection, in autocommit mode, that has nothing of Django's."""

    def outside(self, *statements: Any) -> None:
        """Run statements, ``sql`` or ``(sql, params)`` with %s marks, in one transaction of such a connection."""

    def raw(self, model: type[models.Model]) -> list[Any]:
        """Return the whole table as literals, so that type and bytes count."""

    def copy(self, name: str) -> Database:
        """Make a copy, as a backup or a cloned machine is one."""

    def set_back(self, backup: Any) -> None:
        """Put a backup's content in the place of what is there, whoever is connected."""

    def key(self, value: Any) -> str:
        """Return the text that the ledger has for a UUID."""

    def in_transaction(self, connection: Any) -> bool:
        """Tell whether a DB-API connection has a transaction open."""

    def broken_references(self) -> list[Any]:
        """Return the rows that refer to rows which are not there."""


@dataclass(frozen=True)
class SQLiteFile:
    path: Path
    vendor = "sqlite"

    def settings(self) -> dict[str, Any]:
        return {**SQLITE, "NAME": str(self.path)}

    def connect(self) -> Any:
        return sqlite3.connect(self.path, timeout=20, isolation_level=None)

    def outside(self, *statements: Any) -> None:
        with closing(sqlite3.connect(self.path, timeout=5)) as connection:
            for statement in statements:
                sql, params = (statement, ()) if isinstance(statement, str) else statement
                connection.execute(sql.replace("%s", "?"), params)
            connection.commit()

    def raw(self, model: type[models.Model]) -> list[Any]:
        columns = [f'quote("{f.column}"), typeof("{f.column}")' for f in model._meta.concrete_fields]
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute(f'SELECT {", ".join(columns)} FROM "{model._meta.db_table}"').fetchall()
        return sorted(rows)

    def copy(self, name: str) -> SQLiteFile:
        copied = SQLiteFile(self.path.with_name(f"{name}.sqlite3"))
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(copied.path)) as target:
            source.backup(target)
        return copied

    def set_back(self, backup: SQLiteFile) -> None:
        with closing(sqlite3.connect(backup.path)) as source, closing(sqlite3.connect(self.path, timeout=5)) as target:
            source.backup(target)

    def key(self, value: Any) -> str:
        return str(value.hex)

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.in_transaction)

    def broken_references(self) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("PRAGMA foreign_key_check").fetchall()


@dataclass(frozen=True)
class PostgreSQLDatabase:
    server: PostgreSQLServer
    name: str
    vendor = "postgresql"

    def settings(self) -> dict[str, Any]:
        return self.server.settings(self.name)

    def connect(self) -> Any:
        return self.server.connect(self.name)

    def outside(self, *statements: Any) -> None:
        with psycopg.connect(host=str(self.server.folder), user="postgres", dbname=self.name) as connection:
            for statement in statements:
                sql, params = (statement, None) if isinstance(statement, str) else statement
                connection.execute(sql, params)

    def raw(self, model: type[models.Model]) -> list[Any]:
        names = [f.column for f in model._meta.concrete_fields]
        columns = ", ".join(f'"{name}"::text' for name in names if name is not None)
        with self.server.connect(self.name) as connection:
            return sorted(connection.execute(f'SELECT {columns} FROM "{model._meta.db_table}"').fetchall(), key=repr)

    def copy(self, name: str) -> PostgreSQLDatabase:
        self._close()  # A template must not be in use.
        return PostgreSQLDatabase(self.server, self.server.create(self.name))

    def set_back(self, backup: PostgreSQLDatabase) -> None:
        self._close()
        backup._close()
        self.server.drop(self.name)
        self.server.create(backup.name, self.name)

    def _close(self) -> None:
        """Close this thread's Django connections, which open themselves again."""
        for alias in list(connections):
            if connections[alias].settings_dict["NAME"] == self.name:
                connections[alias].close()

    def key(self, value: Any) -> str:
        return str(value)

    def in_transaction(self, connection: Any) -> bool:
        return connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    def broken_references(self) -> list[Any]:
        return []  # The server itself lets none be committed.


def known(alias: str) -> Database:
    """Return the database that Django knows under an alias."""
    options = connections.databases[alias]
    if options["ENGINE"] == SQLITE["ENGINE"]:
        return SQLiteFile(Path(options["NAME"]))
    return PostgreSQLDatabase(PostgreSQLServer(Path(options["HOST"])), options["NAME"])


def attach(alias: str, database: Database) -> None:
    """Make a database known to Django under an alias."""
    options = connections.configure_settings({**settings.DATABASES, alias: database.settings()})
    connections.databases[alias] = options[alias]


def detach(alias: str) -> None:
    connections[alias].close()
    del connections[alias]
    del connections.databases[alias]
