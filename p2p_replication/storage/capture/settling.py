"""Content that changed without anybody's edit: the ledger's digests follow, and nothing is sent for it.

``local_writes()`` knows of such changes. Their fields get the smallest clock above the one they had, which is the same
on every replica that runs the same code: where a row as it was before meets one as it is after, the latter stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.ledger import EntryStatus, FieldLayout, LocalWrite, Stream
from p2p_replication.protocol.clock import MAX_CLOCK
from p2p_replication.protocol.conflicts import overwrite
from p2p_replication.storage.digests import DIGEST_SIZE, field_digests
from p2p_replication.storage.ledger import Entry, chunks, load_entries, save_entries, set_clocks
from p2p_replication.storage.table import ModelTable


def settle_recorded(connection: BaseDatabaseWrapper, stream: Stream, table: ModelTable) -> None:
    """Settle what ``local_writes()`` has put on record while capture was absent."""
    recorded = LocalWrite.objects.using(connection.alias).filter(stream=stream.pk)
    written: dict[str, set[str]] = {}
    for key, columns in recorded.order_by("pk").values_list("key", "columns"):
        written.setdefault(key, set()).update(columns)
    settle(connection, stream, table, written)
    recorded.delete()


def settle(connection: BaseDatabaseWrapper, stream: Stream, table: ModelTable, written: Mapping[str, set[str]]) -> None:
    """Let the ledger follow updates of these columns, by key. Inside a write transaction that has the ledger's lock.

    Rows that the ledger does not know, or that are not in the table, are left to posting.
    """
    table.vendor.prepare_reading(connection)
    names = {table.vendor.stored_name(codec.column): name for name, codec in table.codecs.items()}
    layouts = _Layouts(connection, stream)
    for keys in chunks(list(written)):
        entries, rows = load_entries(connection, stream.pk, keys), table.read(keys)
        settled = []
        for key, entry in entries.items():
            fields = {names[column] for column in written[key] if column in names}
            if entry.status == EntryStatus.PRESENT and key in rows and fields:
                row = dict(zip(table.names, rows[key], strict=True))
                _follow(entry, row, fields, layouts)
                merges = {name: table.options.merge[name] for name in fields & table.options.merge.keys()}
                entry.merged = {
                    **entry.merged,
                    **{name: m.of(table.codecs[name].wire_type).initial(row[name]) for name, m in merges.items()},
                }
                settled.append(entry)
        save_entries(connection, stream.pk, settled)


def _follow(entry: Entry, row: Mapping[str, Any], fields: set[str], layouts: _Layouts) -> None:
    before = layouts.fields(entry.layout)
    digests = {name: entry.digest[i * DIGEST_SIZE :][:DIGEST_SIZE] for i, name in enumerate(before)}
    clocks, past = (
        {name: entry.field_clocks.get(name, entry.clock) for name in (*before, *entry.held)},
        dict(entry.past),
    )
    for name in fields:
        digests[name] = field_digests([row[name]])
        # A field that is new to the row was filled by a migration: as reconciliation has it.
        overwrite(clocks, past, name, min(clocks[name] + 1, MAX_CLOCK) if name in clocks else entry.inserted)
    after = before if fields <= set(before) else [name for name in row if name in clocks]
    # What the table has no more is nobody's content.
    after = [name for name in after if name in digests]
    entry.digest = b"".join(digests[name] for name in after)
    entry.layout, entry.past = layouts.number(after), past
    # What was to be written there later has been overtaken.
    entry.held = {name: value for name, value in entry.held.items() if name not in fields}
    set_clocks(entry, {name: clock for name, clock in clocks.items() if name in after or name in entry.held})


class _Layouts:
    def __init__(self, connection: BaseDatabaseWrapper, stream: Stream) -> None:
        self._stream = stream
        self._manager = FieldLayout.objects.using(connection.alias)
        self._fields: dict[int, list[str]] = {}

    def fields(self, number: int) -> list[str]:
        if number not in self._fields:
            self._fields[number] = list(self._manager.get(pk=number).fields)
        return self._fields[number]

    def number(self, fields: Sequence[str]) -> int:
        """Return the number of the layout with these fields, made if there is none."""
        for number, known in self._fields.items():
            if known == list(fields):
                return number
        layout = self._manager.filter(stream=self._stream, fields=list(fields)).order_by("pk").first()
        if layout is None:
            layout = self._manager.create(stream=self._stream, fields=list(fields))
        self._fields[layout.pk] = list(fields)
        return int(layout.pk)
