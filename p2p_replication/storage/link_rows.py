"""Many-to-many rows whose end goes: they leave the table with it, and die with it.

A link is in its table if it is alive and both ends are there. When an end is deleted by a peer, its links are taken
out and parked as they are, without a new version: the tombstones that the deleting replica made of those it knew are on
their way, and replicas that made their own as well would flood each other. What stays parked is a link that the
deleting replica did not know of. ``bury_links`` ends it, some time later.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from django.utils import timezone

from p2p_replication.models.ledger import EntryStatus, LedgerEntry, Parking
from p2p_replication.storage.ledger import Entry, chunks, load_entries, marks, save_entries
from p2p_replication.storage.link_keys import split
from p2p_replication.storage.parking import MISSING_PARENT, forget_parked
from p2p_replication.storage.posting import give_dots, post_keys
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.table import Busy
from p2p_replication.storage.versions import state_of, store_state

#: How long the tombstones of a deleted row's links may be on their way.
GRACE = datetime.timedelta(seconds=30)
PAGE = 500


def take_out_links(stream: StreamStore, keys: Sequence[str]) -> None:
    """Take the links of rows that are about to go out of their tables, and park them. Inside ``unlogged``.

    Raises Busy if the application has its hands on one of them.
    """
    database = stream.database
    for label, _, column in stream.relations.links:
        links = database.streams.get(label)
        if links is not None and (found := _links_of(links, column, keys)):
            _take_out(database, links, found, stream)


def _links_of(links: StreamStore, column: str, keys: Sequence[str]) -> list[str]:
    table, found = links.table, []
    with table.connection.cursor() as cursor:
        for chunk in chunks(keys):
            cursor.execute(
                f"SELECT {table.key_text('t')} FROM {table.name} t WHERE t.{column} IN ({marks(len(chunk))})",
                list(chunk),
            )
            found += [record[0] for record in cursor.fetchall()]
    return found


def _take_out(database: ReplicaDatabase, links: StreamStore, keys: list[str], ends: StreamStore) -> None:
    if set(keys) - links.table.lock(keys):
        # Without the keys, as they are none of the rows that are being applied.
        raise Busy(f"the application has not committed its changes of {links.label} yet")
    post_keys(database, links, keys)
    entries = [
        entry
        for entry in load_entries(database.connection, links.id, keys).values()
        if entry.alive and entry.status == EntryStatus.PRESENT
    ]
    links.table.delete(keys)
    for entry in entries:
        store_state(links, entry, state_of(links, entry, ()), EntryStatus.PARKED)
    save_entries(database.connection, links.id, entries)
    _note_taken_out(database, links, [entry.key for entry in entries], f"{ends.label} was deleted")


def _note_taken_out(database: ReplicaDatabase, links: StreamStore, keys: Sequence[str], detail: str) -> None:
    """Record why links are parked, in bulk: a row may have thousands."""
    entries = LedgerEntry.objects.using(database.alias).filter(stream=links.id)
    for chunk in chunks(keys):
        ids = entries.filter(key__in=chunk).values_list("pk", flat=True)
        Parking.objects.using(database.alias).bulk_create(
            [Parking(entry_id=pk, reason=MISSING_PARENT, detail=detail) for pk in ids], ignore_conflicts=True
        )


def bury_links(database: ReplicaDatabase, grace: datetime.timedelta = GRACE) -> int:
    """Delete the parked links of which an end is deleted, as a change of this replica's; return how many.

    What this makes of a link is the same on all replicas, so that it does not matter how many of them do it.

    Args:
        grace: how long they have been parked.
    """
    return sum(_bury(database, stream, grace) for stream in database.streams.values() if stream.table.options.ends)


def _bury(database: ReplicaDatabase, links: StreamStore, grace: datetime.timedelta) -> int:
    buried, after = 0, 0
    while page := _page(database, links, grace, after):
        after = page[-1][0]
        with database.writing():
            keys = [key for _, key in page]
            post_keys(database, links, keys)
            deaths = _deaths(database, links, keys)
            entries = [
                entry
                for key, entry in load_entries(database.connection, links.id, keys).items()
                if key in deaths and entry.alive and entry.status == EntryStatus.PARKED
            ]
            for entry in entries:
                _die(entry, deaths[entry.key])
            if entries:
                give_dots(database, links, entries)
                save_entries(database.connection, links.id, entries)
                forget_parked(database, links, [entry.key for entry in entries])
                database.note_changed([links.label])
            buried += len(entries)
    return buried


def _page(
    database: ReplicaDatabase, links: StreamStore, grace: datetime.timedelta, after: int
) -> list[tuple[int, str]]:
    parked = Parking.objects.using(database.alias).filter(
        reason=MISSING_PARENT, since__lte=timezone.now() - grace, entry__stream=links.id, entry__pk__gt=after
    )
    return list(parked.order_by("entry__pk").values_list("entry__pk", "entry__key")[:PAGE])


def _deaths(database: ReplicaDatabase, links: StreamStore, keys: Sequence[str]) -> Mapping[str, int]:
    """Return ``{link: clock}``: when an end of it was deleted, for those of which one is."""
    deaths: dict[str, int] = {}
    for i, end in enumerate(links.table.options.ends):
        parent = database.streams.get(links.table.parents[end.name]._meta.label)
        if parent is None:
            continue
        ends = {key: split(key)[i] for key in keys}
        found = load_entries(database.connection, parent.id, sorted(set(ends.values())))
        for key, end_key in ends.items():
            entry = found.get(end_key)
            if entry is not None and not entry.alive and entry.status == EntryStatus.DELETED:
                deaths[key] = max(entry.deleted, deaths.get(key, 0))
    return deaths


def _die(entry: Entry, clock: int) -> None:
    """Make a tombstone: of the end's delete, or of the moment the link was made if that was later."""
    entry.deleted = max(entry.deleted, entry.inserted, clock)
    entry.clock, entry.field_clocks, entry.held, entry.digest = entry.deleted, {}, {}, b""
    entry.status = EntryStatus.DELETED
