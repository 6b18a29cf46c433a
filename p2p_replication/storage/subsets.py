"""Subsets of a model: the rows that pools with one filter are about, and what each pool is told of a row (DESIGN 4).

Pools with the same filter share a subset, as the ledger is one for all of them. A bit in a row's ledger entry says
that peers may have it by the subset: when such a row does not match any more, they are told so by a retraction.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from django.db import models

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.ledger import EntryStatus, StreamFilter
from p2p_replication.models.pool import Declaration, filter_text_of
from p2p_replication.models.where import filter_digest
from p2p_replication.protocol.row_filter import RowFilter
from p2p_replication.protocol.row_state import RowState
from p2p_replication.storage.capture.reconciliation import stored_form
from p2p_replication.storage.ledger import TABLE, Entry, chunks, marks
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore

#: Filters that the bits of a ledger entry have room for.
MAX_FILTERS = 62

DECLARATION = Declaration._meta.db_table


class Share(enum.Enum):
    """What the peers of a subset are told of a row."""

    NOTHING = enum.auto()
    WHOLE = enum.auto()
    #: That it has left: its key, clocks, and the fields of the filter.
    RETRACTION = enum.auto()
    DELETION = enum.auto()


@dataclass(frozen=True)
class Subset:
    """All rows of a model, or those that match a filter.

    Attributes:
        digest: as in ``Declaration.filter_digest``.
        bit: the mask of the subset's bit in ``Entry.subsets``.
        defaults: wire values of the filter's fields where a row's version has none.
    """

    filter: RowFilter | None = None
    digest: str = ""
    bit: int = 0
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def includes(self, state: RowState) -> bool:
        """Tell whether a row that is alive belongs to it.

        A field that was added after the row's version was made has its default in every replica's table.
        """
        if self.filter is None:
            return True
        values = state.values
        return self.filter.matches(values if self.filter.fields <= values.keys() else {**self.defaults, **values})

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Tell whether a row with all of these values belongs to the subset."""
        return self.filter is None or self.filter.matches(values)

    def share(self, status: int, bits: int, state: RowState) -> Share:
        """Return what peers are told of an entry with this status, bits and state.

        A hidden row that matches is not here as a whole: only who has it can tell.
        """
        was_in = self.filter is None or bool(bits & self.bit)
        if not state.alive:
            return Share.DELETION if was_in else Share.NOTHING
        if self.includes(state):
            return Share.NOTHING if status == EntryStatus.HIDDEN else Share.WHOLE
        return Share.RETRACTION if was_in else Share.NOTHING

    def refuses(self, state: RowState) -> bool:
        """Tell whether no correct peer sends a row with this state: it lies outside, and more is said than that."""
        return (
            self.filter is not None
            and state.alive
            and not self.includes(state)
            and not self.filter.is_retraction(state)
        )

    def told(self, share: Share, state: RowState) -> RowState:
        """Return the state that peers are sent.

        A deleted row may still have fields, of edits that its delete did not know of. They may have been made outside.
        """
        return state if share is Share.WHOLE or self.filter is None else self.filter.retraction(state)


#: The subset of pools without a filter.
EVERYTHING = Subset()


def subset_for(database: ReplicaDatabase, stream: StreamStore, text: str) -> Subset:
    """Return the subset of a filter's canonical text; a new one gets its bit.

    Raises ConfigurationError for a filter by a field that the table does not have (any more).
    """
    if not text:
        return EVERYTHING
    known: dict[str, Subset] = stream.subsets
    if text not in known:
        known[text] = _made(database, stream, text)
    return known[text]


def _made(database: ReplicaDatabase, stream: StreamStore, text: str) -> Subset:
    row_filter = RowFilter.parse(text)
    if gone := row_filter.fields - set(stream.table.names):
        raise ConfigurationError(
            f"where: {stream.label} is filtered by {', '.join(sorted(gone))}, which its table does not have (any "
            "more). Migrate, or declare it with another filter."
        )
    digest = filter_digest(text)
    known = dict(StreamFilter.objects.using(database.alias).filter(stream_id=stream.id).values_list("digest", "bit"))
    if digest not in known:
        free = set(range(MAX_FILTERS)) - set(known.values())
        if not free:
            raise ConfigurationError(
                f"where: {stream.label} has had {MAX_FILTERS} filters on this replica, which is the most."
            )
        known[digest] = min(free)
        StreamFilter.objects.using(database.alias).create(stream_id=stream.id, digest=digest, bit=known[digest])
    return Subset(row_filter, digest, 1 << known[digest], _defaults(database, stream, row_filter.fields))


def _defaults(database: ReplicaDatabase, stream: StreamStore, names: Iterable[str]) -> dict[str, Any]:
    """Return the defaults of fields in wire form, without those that are another value each time."""
    table, connection = stream.table, database.connection
    found: dict[str, Any] = {}
    for name in names:
        model_field = table.options.model._meta.get_field(name)
        assert isinstance(model_field, models.Field)
        default = model_field.db_default
        if default is models.NOT_PROVIDED:
            if callable(model_field.default) and model_field.default is not models.NOT_PROVIDED:
                continue
            default = model_field.get_default()
        elif hasattr(default, "resolve_expression") and not isinstance(default, models.Value):
            continue
        raw = getattr(default, "value", default)
        if raw is not None:
            raw = stored_form(connection, table, name, "%s", [model_field.get_db_prep_save(raw, connection)])
        found[name] = raw
    return found


def declared_subsets(database: ReplicaDatabase, stream: StreamStore) -> list[Subset]:
    """Return the subsets that pools of this replica are about, without those whose filter can't be applied (any more).

    Nothing comes by their pools, and the other pools of the model go on.
    """
    with database.connection.cursor() as cursor:
        # Asked for each slice, and most have no filter.
        cursor.execute(f"SELECT DISTINCT filter_digest FROM {DECLARATION} WHERE model = %s", [stream.label])
        digests = {digest for (digest,) in cursor.fetchall()}
    if digests <= {EVERYTHING.digest}:
        return [EVERYTHING] if digests else []
    declarations = Declaration.objects.using(database.alias).filter(model=stream.label)
    found = []
    for text in set(map(filter_text_of, declarations.values_list("where", flat=True))):
        with suppress(ConfigurationError):
            found.append(subset_for(database, stream, text))
    return found


def mark_shared(database: ReplicaDatabase, stream: StreamStore, subset: Subset, keys: Sequence[str]) -> None:
    """Remember that peers may have these rows by the subset, before they are sent."""
    if not keys:
        return
    with database.writing(), database.connection.cursor() as cursor:
        for chunk in chunks(keys):
            cursor.execute(
                f"UPDATE {TABLE} SET subsets = subsets | %s WHERE stream = %s AND key IN ({marks(len(chunk))})",
                [subset.bit, stream.id, *chunk],
            )


def unmarked(subset: Subset, entries: Iterable[Entry]) -> list[str]:
    """Return the keys of the entries that lack the subset's bit."""
    return [entry.key for entry in entries if entry.subsets & subset.bit != subset.bit]
