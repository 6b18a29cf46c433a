"""What the triggers of a table must capture, and the triggers themselves, whatever the database.

Everything is compiled from the columns the database really has: SQLite creates a trigger that names a missing
column without a word, and then fails at the first write.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.exceptions import ConfigurationError

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


@dataclass(frozen=True)
class Trigger:
    """A trigger: its name carries a hash of its table and one of its text, so that drift shows in the name."""

    name: str
    table: str
    sql: str


def named(kind: str, table: str, body: str) -> str:
    """Return the name of a trigger: short enough for every database, whatever the table is called."""
    return f"{PREFIX}{kind}_{_hash(table)}_{_hash(body)}"


def is_ours(name: str) -> bool:
    """Tell whether a trigger of this name was made by us, whatever others begin like it."""
    return _NAME.fullmatch(name) is not None


def table_mark(table: str) -> str:
    """Return the part of a trigger's name that stands for its table."""
    return _hash(table)


def compile_triggers(connection: BaseDatabaseWrapper, target: CaptureTarget) -> list[Trigger]:
    """Return the triggers that capture every write to the target.

    Raises ConfigurationError for a database that has no trigger compiler.
    """
    if connection.vendor == "sqlite":
        from p2p_replication.storage.capture import sqlite

        return sqlite.triggers(target)
    raise ConfigurationError(
        f"The database {connection.alias!r} is {connection.display_name}; replication runs on SQLite so far."
    )


def digest_of(triggers: Iterable[Trigger]) -> str:
    """Return one hash for a set of triggers."""
    return hashlib.sha256("\n".join(sorted(t.name for t in triggers)).encode()).hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
