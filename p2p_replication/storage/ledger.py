"""The ledger's rows as plain records, and the SQL that reads and writes them in bulk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.ledger import EntryStatus, LedgerEntry
from p2p_replication.protocol.row_state import NOTHING, Past
from p2p_replication.storage.vendors import vendor_of

TABLE = LedgerEntry._meta.db_table
COLUMNS = (
    "key", "status", "inserted", "deleted", "clock", "field_clocks", "layout", "origin", "counter", "more_dots",
    "own_counter", "born_origin", "born_counter", "seq", "digest", "held", "past", "merged", "subsets",
)  # fmt: skip

#: How many values one IN (...) may have: well below every database's limit for parameters.
CHUNK = 500

_json = msgspec.json.Encoder().encode
_clocks = msgspec.json.Decoder(dict[str, int]).decode
_dots = msgspec.json.Decoder(dict[int, int]).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode
_past = msgspec.msgpack.Decoder(dict[str, tuple[int, ...]]).decode


class Entry(msgspec.Struct):
    """One ledger entry; origins are local numbers."""

    key: str
    status: int = EntryStatus.PRESENT
    inserted: int = 0
    deleted: int = -1
    clock: int = 0
    field_clocks: Mapping[str, int] = NOTHING
    layout: int = 0
    origin: int = 0
    counter: int = 0
    more_dots: Mapping[int, int] = NOTHING
    own_counter: int = 0
    born_origin: int = 0
    born_counter: int = 0
    seq: int = 0
    digest: bytes = b""
    held: Mapping[str, Any] = NOTHING
    past: Past = NOTHING
    merged: Mapping[str, Any] = NOTHING
    subsets: int = 0
    is_new: bool = False

    @classmethod
    def load(cls, record: Sequence[Any]) -> Entry:
        entry = cls(*record)
        entry.field_clocks = _clocks(record[5]) if record[5] else NOTHING
        entry.more_dots = _dots(record[9]) if record[9] else NOTHING
        entry.held = _unpack(record[15]) if record[15] else NOTHING
        entry.past = _past(record[16]) if record[16] else NOTHING
        entry.merged = _unpack(record[17]) if record[17] else NOTHING
        return entry

    def record(self) -> tuple[Any, ...]:
        return (
            self.key, int(self.status), self.inserted, self.deleted, self.clock,
            _json(self.field_clocks).decode() if self.field_clocks else None,
            self.layout, self.origin, self.counter,
            _json(self.more_dots).decode() if self.more_dots else None,
            self.own_counter, self.born_origin, self.born_counter, self.seq, self.digest,
            _pack(self.held) if self.held else None,
            _pack(self.past) if self.past else None,
            _pack(self.merged) if self.merged else None,
            self.subsets,
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self.inserted > self.deleted

    @property
    def is_held(self) -> bool:
        """Tell whether the row's values are in ``held``, and not in the table."""
        return self.status in (EntryStatus.PARKED, EntryStatus.HIDDEN)

    def latest(self) -> int:
        """Return the greatest clock of the row."""
        return max(self.inserted, self.deleted, self.clock, *self.field_clocks.values())

    def dots(self) -> dict[int, int]:
        return {self.origin: self.counter, **self.more_dots}

    def take_dots(self, dots: Mapping[int, int]) -> None:
        items = iter(dots.items())
        self.origin, self.counter = next(items)
        self.more_dots = dict(items) if len(dots) > 1 else NOTHING


def set_clocks(entry: Entry, clocks: dict[str, int]) -> None:
    """Store field clocks compactly: the commonest is the row's."""
    if not clocks:
        entry.clock, entry.field_clocks = max(entry.inserted, entry.deleted), NOTHING
        return
    values = list(clocks.values())
    common = values[0]
    if any(value != common for value in values):
        common = max(set(values), key=lambda value: (values.count(value), value))
    entry.clock = common
    entry.field_clocks = {name: value for name, value in clocks.items() if value != common}


def load_entries(connection: BaseDatabaseWrapper, stream: int, keys: Sequence[str]) -> dict[str, Entry]:
    """Return the entries of these keys, by key."""
    found: dict[str, Entry] = {}
    with connection.cursor() as cursor:
        for chunk in chunks(keys):
            cursor.execute(
                f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE stream = %s AND key IN ({marks(len(chunk))})",
                [stream, *chunk],
            )
            for record in cursor.fetchall():
                found[record[0]] = Entry.load(record)
    return found


def save_entries(connection: BaseDatabaseWrapper, stream: int, entries: Iterable[Entry]) -> None:
    """Insert the new ones, update the others."""
    vendor = vendor_of(connection)
    new: list[tuple[Any, ...]] = []
    old: list[tuple[Any, ...]] = []
    for entry in entries:
        record = entry.record()
        (new if entry.is_new else old).append((stream, *record))
        entry.is_new = False
    with connection.cursor() as cursor:
        if new:
            vendor.insert(cursor, TABLE, ("stream", *COLUMNS), new)
        if old:
            # On PostgreSQL one statement for many rows; on SQLite as quick as an UPDATE.
            assignments = ", ".join(f"{column} = EXCLUDED.{column}" for column in COLUMNS[1:])
            vendor.insert(
                cursor, TABLE, ("stream", *COLUMNS), old, f"ON CONFLICT (stream, key) DO UPDATE SET {assignments}"
            )


def chunks(items: Sequence[Any], size: int = CHUNK) -> Iterable[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def marks(count: int) -> str:
    return ", ".join(["%s"] * count)
