"""What the triggers of a table must capture, and the triggers themselves, whatever the database.

Everything is compiled from the columns the database really has: SQLite creates a trigger that names a missing
column without a word, and then fails at the first write.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from django.db.backends.base.base import BaseDatabaseWrapper

#: All our triggers begin with this.
PREFIX = "p2p_"
_NAME = re.compile(PREFIX + "[a-z]+[0-9]*_[0-9a-f]{12}_[0-9a-f]{12}")


@dataclass(frozen=True)
class CaptureTarget:
    """A table to capture: unquoted names; ``columns`` in the order of the layout."""

    table: str
    key: str
    columns: tuple[str, ...]
    #: Column sets of the unique constraints besides the key.
    unique: tuple[tuple[str, ...], ...]
    stream: int
    layout: int
    #: The primary key, where that is not the key.
    local: str = ""


@dataclass(frozen=True)
class Trigger:
    """A trigger: its name carries a hash of its table and one of its text, so that drift shows in the name."""

    name: str
    table: str
    sql: str
    #: What the database shows of it.
    body: str


def named(kind: str, table: str, body: str) -> str:
    """Return the name of a trigger: short enough for every database, whatever the table is called."""
    return f"{PREFIX}{kind}_{_hash(table)}_{_hash(body)}"


def is_ours(name: str) -> bool:
    """Tell whether a trigger of this name was made by us, whatever others begin like it."""
    return _NAME.fullmatch(name) is not None


def table_mark(table: str) -> str:
    """Return the part of a trigger's name that stands for its table."""
    return _hash(table)


class Compiler(Protocol):
    """The triggers of one kind of database: what the modules ``sqlite`` and ``postgresql`` have."""

    def triggers(self, connection: BaseDatabaseWrapper, target: CaptureTarget) -> list[Trigger]: ...

    def installed(self, connection: BaseDatabaseWrapper, table: str) -> dict[str, str]: ...

    def all_installed(self, connection: BaseDatabaseWrapper) -> dict[str, str]: ...

    def drop(self, connection: BaseDatabaseWrapper, name: str, table: str) -> None: ...

    def unique_columns(self, connection: BaseDatabaseWrapper, table: str) -> list[tuple[str, ...]]: ...


def compiler_of(connection: BaseDatabaseWrapper) -> Compiler:
    """Return the trigger compiler of a connection's database, which must be one that replication runs on."""
    if connection.vendor == "postgresql":
        from p2p_replication.storage.capture import postgresql

        return postgresql
    from p2p_replication.storage.capture import sqlite

    return sqlite


def digest_of(triggers: Iterable[Trigger]) -> str:
    """Return one hash for a set of triggers."""
    return hashlib.sha256("\n".join(sorted(t.name for t in triggers)).encode()).hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
