"""What differs between the databases that replication runs on: sessions, transactions, locks and bulk writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.storage.codecs import FieldCodec

#: SQL that says of the rows of a table, by its alias, that they have one of these keys; and its parameters.
Condition = Callable[[str, Sequence[str]], tuple[str, list[Any]]]

#: Vendors by Django's names.
SUPPORTED = ("sqlite", "postgresql")


class Vendor(Protocol):
    """One kind of database, as the worker uses it."""

    #: SQL of the present time, in milliseconds since the epoch.
    now_ms: str
    #: Begins a transaction whose reads all see one state.
    begin_snapshot: str
    #: All writers of the database share one lock, which the worker has to leave to others in between.
    has_one_write_lock: bool
    #: The function that finds a text in another one.
    position: str

    def prepare(self, connection: BaseDatabaseWrapper) -> None:
        """Set up a new connection of the worker."""

    def prepare_reading(self, connection: BaseDatabaseWrapper) -> None:
        """Let a connection read whatever lies in the tables."""

    def begin_writing(self, connection: BaseDatabaseWrapper, *, frozen: bool = False) -> None:
        """At the begin of a write transaction: nobody else posts or applies until it ends.

        Args:
            frozen: all statements see one state, instead of the application's commits as they come.
        """

    def end_writing(self, connection: BaseDatabaseWrapper) -> None:
        """Before the commit: constraints that wait for it are checked now, where the rows at fault are still known."""

    def begin_unlogged(self, connection: BaseDatabaseWrapper) -> None:
        """What this transaction writes from here on is not captured."""

    def end_unlogged(self, connection: BaseDatabaseWrapper) -> None:
        """What it writes from here on is."""

    def is_unlogged(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell whether the transaction's writes are not captured just now."""

    def lock_ledger(self, connection: BaseDatabaseWrapper) -> None:
        """Keep everybody else from posting and applying until the transaction ends."""

    def lock_table(self, connection: BaseDatabaseWrapper, table: str) -> None:
        """Keep everybody else from writing to a table until the transaction ends."""

    def differs(self, one: str, other: str) -> str:
        """Return the SQL that two values, read verbatim, are not the same."""

    def codec_for(self, field: models.Field[Any, Any]) -> FieldCodec:
        """Return how a field's values travel. Raises ConfigurationError if they can't."""

    def key_text(self, column: str) -> str:
        """Return the SQL of a key column's value as the ledger has it: text."""

    def key_value(self, text: str, kind: str) -> str:
        """Return the SQL of a ledger key (``kind``: its wire type) that is compared with the key column."""

    def verbatim(self, column: str) -> str:
        """Return the SQL that reads a column's value so that it can be inserted again exactly."""

    def stored_name(self, name: str) -> str:
        """Return the name of a table or column as the database has it, which may cut it off."""

    def columns(self, connection: BaseDatabaseWrapper, table: str) -> list[str]:
        """Return the columns that a table (or view) has and that can be written."""

    def may_be_null(self, connection: BaseDatabaseWrapper, table: str, column: str) -> bool:
        """Tell whether a column takes null."""

    def is_unique(self, connection: BaseDatabaseWrapper, table: str, column: str) -> bool:
        """Tell whether no two rows can have the same value in a column, by an index of its own over all rows."""

    def cast_of(self, connection: BaseDatabaseWrapper, table: str, column: str) -> str:
        """Return the SQL type that makes of a value what the column makes of it; nothing if it keeps values as is."""

    def lock_rows(
        self, connection: BaseDatabaseWrapper, table: str, key_text: str, condition: Condition, keys: Sequence[str]
    ) -> set[str]:
        """Keep those of the rows that are there, and that nobody else locks, from being changed until the transaction
        ends; return their keys. Never waits. ``key_text`` is the SQL of a key of the table ``l``.
        """

    def insert(
        self, cursor: Any, table: str, columns: Sequence[str], records: Sequence[Sequence[Any]], conflict: str = ""
    ) -> int:
        """Insert records (an ``ON CONFLICT`` clause may follow them); return how many were inserted or updated."""

    def next_numbers(self, connection: BaseDatabaseWrapper, table: str, column: str, count: int) -> list[int]:
        """Take so many numbers that the database itself would give to new rows as their primary keys."""

    def note_growth(self, connection: BaseDatabaseWrapper, table: str, rows: int) -> None:
        """Let the database's planner know that a table has so many rows by now, or more. Never raises, never waits."""

    def is_busy(self, error: BaseException) -> bool:
        """Tell whether an error means that the application holds a lock: the same will work a little later."""


def vendor_of(connection: BaseDatabaseWrapper) -> Vendor:
    """Return the vendor of a connection. Raises ConfigurationError for databases that replication does not run on."""
    if connection.vendor == "sqlite":
        from p2p_replication.storage.vendors.sqlite import SQLite

        return SQLite()
    if connection.vendor == "postgresql":
        from p2p_replication.storage.vendors.postgresql import PostgreSQL

        return PostgreSQL()
    raise ConfigurationError(
        f"The database {connection.alias!r} is {connection.display_name}; replication runs on SQLite and PostgreSQL."
    )
