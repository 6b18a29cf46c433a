"""Which pools' filters a row matches, and what the peers of the others know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections

from p2p_replication.models.ledger import EntryStatus, Stream, StreamFilter
from p2p_replication.models.pool import Declaration
from p2p_replication.protocol.row_filter import RowFilter
from p2p_replication.registry import Options
from p2p_replication.storage.ledger import Entry, load_entries
from p2p_replication.storage.table import ModelTable, WireRow


@dataclass(frozen=True)
class FilterState:
    """A row and the filter of one pool."""

    pool: str
    filter: str
    inside: bool
    #: Peers know the row by this pool, or what became of it.
    shared: bool
    #: What keeps it outside, in words.
    why: str


def filter_states(
    database: str, declarations: Sequence[Declaration], entry: Entry, values: Mapping[str, Any]
) -> dict[int, FilterState]:
    """Return the state of a row with these wire values in each declaration that has a filter, by their ids."""
    found = {}
    for declaration in declarations:
        if not declaration.filter_text:
            continue
        row_filter, shared = RowFilter.parse(declaration.filter_text), bool(entry.subsets & _bit(database, declaration))
        inside = entry.alive and row_filter.matches(values)
        found[declaration.pk] = FilterState(
            str(declaration.pool), str(row_filter), inside, shared or inside, _why(entry, row_filter, values, shared)
        )
    return found


def count_shared(database: str, options: Options, declaration: Declaration, keys: Sequence[str]) -> int:
    """Count the rows among these that peers are told of by a declaration with a filter."""
    connection = connections[database]
    stream = Stream.objects.using(database).get(label=options.label)
    table = ModelTable(connection, options)
    entries, rows = load_entries(connection, stream.pk, keys), table.read(keys)
    row_filter, bit = RowFilter.parse(declaration.filter_text), _bit(database, declaration)
    return sum(
        bool(entry.subsets & bit) or (entry.alive and row_filter.matches(row_values(table, entry, rows.get(key))))
        for key, entry in entries.items()
    )


def _bit(database: str, declaration: Declaration) -> int:
    """Return the mask of a declaration's filter in ``Entry.subsets``, 0 before a worker has given it."""
    filters = StreamFilter.objects.using(database).filter(
        stream__label=declaration.model, digest=declaration.filter_digest
    )
    bit = filters.values_list("bit", flat=True).first()
    return 0 if bit is None else 1 << bit


def row_values(table: ModelTable, entry: Entry, row: WireRow | None) -> Mapping[str, Any]:
    """Return the values that a row's version has: those of the table, or the ones that its entry holds."""
    if row is None or entry.is_held:
        return entry.held
    return {**dict(zip(table.names, row, strict=True)), **entry.held}


def _why(entry: Entry, row_filter: RowFilter, values: Mapping[str, Any], shared: bool) -> str:
    if not entry.alive:
        return "it is deleted, and peers are told" if shared else "it is deleted, and was never in it"
    unmet = row_filter.unmet(values)
    if not unmet:
        return "" if entry.status != EntryStatus.HIDDEN else "it matches, but only its peers have it whole"
    has = ", ".join(f"{name} is {_shown(values, name)}" for name in dict.fromkeys(c.field for c in unmet))
    asked = ", ".join(map(str, unmet))
    told = "peers were told that it has left" if shared else "it was never in it, so no peer knows of it by this pool"
    return f"{has}, and the filter asks for {asked}; {told}"


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "not known"
    value = values[name]
    return repr(value.hex() if isinstance(value, bytes) else value)
