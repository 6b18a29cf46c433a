"""What this replica knows of one row: the table, the ledger, the change log, and what its peers have of it."""

from __future__ import annotations

import contextlib
import datetime
import uuid
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, connections, models

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.management.layout import replica_name, when
from p2p_replication.management.origins import OriginNames
from p2p_replication.management.parked_rows import ParkedRow, parked_rows
from p2p_replication.management.row_filters import FilterState, filter_states, row_values
from p2p_replication.models.ledger import (
    ChangeLogEntry,
    EntryStatus,
    FieldLayout,
    Operation,
    Stream,
)
from p2p_replication.models.pool import Declaration, PeerProgress, PeerState, PoolError
from p2p_replication.protocol.version_vector import covers
from p2p_replication.registry import Options
from p2p_replication.storage.codecs import FieldCodec, base_field
from p2p_replication.storage.digests import differing, field_digests
from p2p_replication.storage.ledger import Entry, load_entries
from p2p_replication.storage.link_keys import joined, split
from p2p_replication.storage.link_table import LinkTable, table_of
from p2p_replication.storage.table import ModelTable


@dataclass(frozen=True)
class Dot:
    """One version that is in the row: whose, and its number."""

    origin: str
    counter: int
    replica: str
    described: str


@dataclass(frozen=True)
class Version:
    """The row's ledger entry. Clocks are row clocks; ``layout.clock_text`` says when they were."""

    state: str
    inserted: int
    deleted: int
    fields: dict[str, int]
    dots: list[Dot]


@dataclass(frozen=True)
class PeerKnowledge:
    """Whether a peer has acknowledged the row's version. ``has`` is None where that is not known."""

    pool: str
    replica: str
    name: str
    has: bool | None
    why: str


@dataclass(frozen=True)
class RowHistory:
    model: str
    key: str
    in_table: bool
    version: Version | None
    #: Fields whose content is not what the version says: changed past the triggers.
    changed_unseen: list[str]
    #: Writes in the change log that are not posted yet: what, and when.
    waiting: list[tuple[str, datetime.datetime]]
    #: Foreign keys that are null for now, as their target is not there, by name: the target.
    awaited: dict[str, str]
    parked: ParkedRow | None
    pools: list[str]
    #: What the filters of pools say of it.
    filters: list[FilterState]
    peers: list[PeerKnowledge]
    #: Recent errors of the pools that name the model or the row.
    errors: list[str] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        return self.in_table or self.version is not None or bool(self.waiting)


def key_text(database: str, options: Options, typed: str) -> str:
    """Return the key as the ledger has it, for what a person has typed.

    Raises ConfigurationError if that can be no key of the model.
    """
    table = table_of(connections[database], options)
    try:
        if isinstance(table, LinkTable):
            ends = zip(options.ends, table.ends, split(typed), strict=True)
            return joined(*(_key_text(end, codec, text) for end, codec, text in ends))
        return _key_text(options.key_field, table.key, typed)
    except (ValidationError, ValueError) as error:
        raise ConfigurationError(
            f"{typed!r} is no key of {options.label}, whose keys are {table.key.wire_type}."
        ) from error


def _key_text(field: models.Field[Any, Any], codec: FieldCodec, typed: str) -> str:
    value: Any = base_field(field).to_python(typed)
    value = value.bytes if isinstance(value, uuid.UUID) else value
    text: str = codec.from_wire(value) if codec.from_wire else value
    return text


def row_history(database: str, options: Options, key: str) -> RowHistory:
    """Gather what is known of a row."""
    table = table_of(connections[database], options)
    stream = Stream.objects.using(database).filter(label=options.label).first()
    origins = OriginNames(database)
    entry = load_entries(connections[database], stream.pk, [key]).get(key) if stream is not None else None
    declarations = list(
        Declaration.objects.using(database)
        .filter(model=options.label, pool__cancelled_at=None)
        .select_related("pool")
        .order_by("pool__account", "pool__topic")
    )
    waiting = _waiting(database, stream.pk, key) if stream is not None else []
    row = table.read([key]).get(key)
    filters: dict[int, FilterState] = {}
    if entry is not None:
        filters = filter_states(database, declarations, entry, row_values(table, entry, row))
    return RowHistory(
        options.label,
        key,
        row is not None,
        _version(database, entry, table, origins) if entry is not None else None,
        _changed_unseen(database, entry, table) if entry is not None and not waiting else [],
        waiting,
        _awaited(entry, table) if entry is not None else {},
        next(iter(parked_rows(database, options.label, key)), None),
        [str(declaration.pool) for declaration in declarations],
        list(filters.values()),
        [
            knowledge
            for declaration in declarations
            for knowledge in _peers(database, declaration, entry, origins, filters.get(declaration.pk))
        ]
        if entry is not None
        else [],
        _errors(database, declarations, options.label, key),
    )


def _version(database: str, entry: Entry, table: ModelTable, origins: OriginNames) -> Version:
    names = _layout(database, entry, table) if entry.status == EntryStatus.PRESENT else []
    fields = {name: entry.field_clocks.get(name, entry.clock) for name in (*names, *entry.held)}
    states = {EntryStatus.PRESENT: "alive", EntryStatus.DELETED: "deleted", EntryStatus.PARKED: "parked"}
    return Version(
        states.get(EntryStatus(entry.status), EntryStatus(entry.status).label),
        entry.inserted,
        entry.deleted,
        fields,
        [
            Dot(origins.id_of(origin), counter, origins.replica_of(origin), origins.describe(origin))
            for origin, counter in entry.dots().items()
        ],
    )


def _layout(database: str, entry: Entry, table: ModelTable) -> list[str]:
    layout = FieldLayout.objects.using(database).filter(pk=entry.layout).first()
    return list(layout.fields) if layout is not None else list(table.names)


def _changed_unseen(database: str, entry: Entry, table: ModelTable) -> list[str]:
    row = None
    with contextlib.suppress(DatabaseError):  # Text that is no UTF-8, say: that is not what is asked here.
        row = table.read([entry.key]).get(entry.key)
    if entry.status != EntryStatus.PRESENT or row is None:
        return []
    names, values = _layout(database, entry, table), dict(zip(table.names, row, strict=True))
    now = field_digests([values.get(name) for name in names])
    return [names[i] for i in differing(bytes(entry.digest), now) if i < len(names) and names[i] in values]


def _awaited(entry: Entry, table: ModelTable) -> dict[str, str]:
    if entry.status != EntryStatus.PRESENT:
        return {}
    return {n: f"{r.label} {entry.held[n]}" for n, r in table.references.natural.items() if n in entry.held}


def _waiting(database: str, stream: int, key: str) -> list[tuple[str, datetime.datetime]]:
    log = ChangeLogEntry.objects.using(database).filter(stream=stream, key=key).order_by("pk")
    return [
        (
            str(Operation(entry.operation).label).lower(),
            datetime.datetime.fromtimestamp(entry.wall / 1000, datetime.UTC),
        )
        for entry in log
    ]


def _peers(
    database: str, declaration: Declaration, entry: Entry, origins: OriginNames, state: FilterState | None
) -> list[PeerKnowledge]:
    progress = {item.peer_id: item for item in PeerProgress.objects.using(database).filter(declaration=declaration)}
    live = declaration.pool.has_live_worker
    found = []
    for peer in declaration.pool.peers.order_by("name", "replica_id"):
        known = progress.get(peer.pk)
        # What a peer has made itself it has, of course.
        dots = {
            origins.id_of(origin): counter
            for origin, counter in entry.dots().items()
            if origins.replica_of(origin) != peer.replica_id
        }
        has: bool | None = False
        if known is None:
            has, why = None, "it was not seen to replicate this model: it may not declare it"
        elif state is not None and not state.shared:
            why = "the row is outside of the pool's filter"
        elif state is not None and not state.inside and covers(known.confirmed, dots):
            has, why = True, "it knows what became of the row, which is not in the pool's filter"
        elif covers(known.confirmed, dots):
            has, why = True, "it has acknowledged this version (applied, or parked there)"
        elif peer.state == PeerState.REFUSED:
            why = f"refused: {peer.last_error}"
        elif not live:
            why = "no live worker serves the pool here. Start one: manage.py runp2psync"
        elif peer.state != PeerState.CONNECTED:
            why = f"not connected, last seen {when(peer.last_seen)}"
        else:
            why = "connected, and has not acknowledged it yet"
        found.append(
            PeerKnowledge(str(declaration.pool), peer.replica_id, replica_name(peer.replica_id, peer.name), has, why)
        )
    return found


def _errors(database: str, declarations: list[Declaration], label: str, key: str) -> list[str]:
    errors = PoolError.objects.using(database).filter(pool__in=[declaration.pool_id for declaration in declarations])
    return [
        f"{when(error.at)}: {error.text}"
        for error in (errors.filter(text__contains=label) | errors.filter(text__contains=key))[:5]
    ]
