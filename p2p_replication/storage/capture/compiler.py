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

from p2p_replication.storage.link_keys import link_text

#: All our triggers begin with this.
PREFIX = "p2p_"
_NAME = re.compile(PREFIX + "[a-z]+[0-9]*_[0-9a-f]{12}_[0-9a-f]{12}")


@dataclass(frozen=True)
class CaptureTarget:
    """A table to capture: unquoted names; ``columns`` in the order of the layout."""

    table: str
    #: One column, or the two ends of a link.
    key: tuple[str, ...]
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


def key_of(target: CaptureTarget, text: str) -> str:
    """Return the SQL of a row's key as the ledger has it. ``text`` makes of ``{}``, a quoted column, its text."""
    texts = [text.format(quoted(column)) for column in target.key]
    return texts[0] if len(texts) == 1 else link_text(*texts)


def same_key(target: CaptureTarget, one: str, other: str, equals: str) -> str:
    """Return the SQL condition that two rows, by their names, have one key."""
    return " AND ".join(f"{one}.{quoted(column)} {equals} {other}.{quoted(column)}" for column in target.key)


def digest_of(triggers: Iterable[Trigger]) -> str:
    """Return one hash for a set of triggers."""
    return hashlib.sha256("\n".join(sorted(t.name for t in triggers)).encode()).hexdigest()


def quoted(name: str) -> str:
    """Return a quoted name for SQL that has no parameters."""
    return '"' + name.replace('"', '""') + '"'


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
