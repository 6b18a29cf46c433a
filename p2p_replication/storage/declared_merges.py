"""Merges that were declared when the rows were there already: their states are written down once."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from p2p_replication.models.ledger import EntryStatus, LedgerEntry, Stream
from p2p_replication.storage.ledger import load_entries, save_entries
from p2p_replication.storage.posting import pending_keys, post_keys
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore

PAGE = 500


def keep_merge_states(database: ReplicaDatabase) -> int:
    """Give the rows states for the merges that were declared since; return the number of rows.

    A row whose merge is new has the state of its present value, on every replica alike; but what the application
    adds to that from now on has to be told from it.
    """
    known = dict(Stream.objects.using(database.alias).values_list("pk", "merges"))
    return sum(_keep_states(database, stream, known[stream.id]) for stream in database.streams.values())


def _keep_states(database: ReplicaDatabase, stream: StreamStore, known: Mapping[str, str]) -> int:
    declared = {name: merge.name for name, merge in stream.merges.items()}
    if known == declared:
        return 0
    new = [name for name in declared if known.get(name) != declared[name]]
    count = after = 0
    while new:
        entries = LedgerEntry.objects.using(database.alias).filter(
            stream=stream.id, status=EntryStatus.PRESENT, pk__gt=after
        )
        page = list(entries.order_by("pk").values_list("pk", "key")[:PAGE])
        if not page:
            break
        after = page[-1][0]
        count += _keep(database, stream, [key for _, key in page], new)
    Stream.objects.using(database.alias).filter(pk=stream.id).update(merges=declared)
    return count


def _keep(database: ReplicaDatabase, stream: StreamStore, keys: list[str], new: Collection[str]) -> int:
    with database.writing():
        post_keys(database, stream, keys)
        entries, rows = load_entries(database.connection, stream.id, keys), stream.table.read(keys)
        waiting = pending_keys(database, stream)
        kept = [e for key, e in entries.items() if e.status == EntryStatus.PRESENT and key in rows.keys() - waiting]
        for entry in kept:
            values = dict(zip(stream.table.names, rows[entry.key], strict=True))
            entry.merged = {**entry.merged, **{name: stream.merges[name].initial(values[name]) for name in new}}
        save_entries(database.connection, stream.id, kept)
    return len(kept)
