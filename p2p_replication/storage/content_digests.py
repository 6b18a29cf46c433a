"""Reading the digests of a model's content, to compare it with a peer's: in pages, from one snapshot, without a lock.

This may take long, so that it runs in a thread and on a connection of its own, beside the worker's database thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from msgspec.msgpack import Ext

from p2p_replication.models.ledger import ChangeLogEntry, LedgerEntry, Stream
from p2p_replication.models.replica import Origin
from p2p_replication.protocol.content_digest import BucketRows, BucketSums
from p2p_replication.protocol.messages import BYTES, Digest
from p2p_replication.protocol.version_vector import covers
from p2p_replication.registry import registry
from p2p_replication.storage.ledger import COLUMNS, Entry
from p2p_replication.storage.link_table import table_of
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.subsets import EVERYTHING, Share, Subset
from p2p_replication.storage.vectors import vector_of
from p2p_replication.storage.vendors import vendor_of
from p2p_replication.storage.versions import state_of

#: Rows that are in memory at a time.
PAGE = 1_000


class Stopped(Exception):
    """Nobody waits for the digests any more."""


def read_digest(
    stop: threading.Event, database: ReplicaDatabase, label: str, declaration: int, buckets: Sequence[int],
    subset: Subset = EVERYTHING,
) -> Digest:  # fmt: skip
    """Return the sums of all buckets, or the rows of these buckets: of the rows in a subset and its deleted ones.

    Args:
        database: only its name and start are used; the connection is that of the calling thread.

    Raises Stopped soon after ``stop`` is set.
    """
    alias = database.alias
    connection = connections[alias]
    options = registry.get(label)
    assert options is not None
    with snapshot(connection):
        # Of this thread's own: caches and connections belong to one thread.
        row = Stream.objects.using(alias).get(label=label)
        stream = StreamStore(database, row, table_of(connection, options))
        vector = vector_of(database, stream, declaration, subset)
        origins = dict(Origin.objects.using(alias).values_list("pk", "origin"))
        sums, chosen = BucketSums(), BucketRows(buckets)
        loose = in_table = 0
        for entry, values in _rows(stream, alias, stop):
            key, state = stream.table.key_to_wire(entry.key), state_of(stream, entry, values)
            in_table += values is not None
            share = subset.share(entry.status, entry.subsets, state)
            if share is Share.NOTHING:
                continue
            if share is not Share.RETRACTION:  # Of a row that has left each replica has another part.
                (chosen if buckets else sums).add(key, subset.told(share, state))
            loose += not covers(vector, {origins[origin]: counter for origin, counter in entry.dots().items()})
        waiting = ChangeLogEntry.objects.using(alias).filter(stream=stream.id).count()
        counted = options.model._base_manager.using(alias).count()
    unsettled = ""
    if waiting:
        unsettled = f"{waiting} local changes are not posted yet"
    elif loose:
        unsettled = f"{loose} rows came from elsewhere and are not in this pool's vector (yet)"
    keys, hashes, cut = chosen.rows()
    return Digest(
        label,
        0,
        vector,
        "",
        unsettled,
        b"" if buckets else sums.packed(),
        [Ext(BYTES, key) if type(key) is bytes else key for key in keys],
        hashes,
        cut,
        0 if waiting else max(counted - in_table, 0),
    )


def _rows(stream: StreamStore, alias: str, stop: threading.Event) -> Iterator[tuple[Entry, Any]]:
    """Yield all ledger entries of a model, each with its row in the table (None: there is none)."""
    ledger = LedgerEntry.objects.using(alias).filter(stream=stream.id).order_by("pk")
    after = 0
    while True:
        if stop.is_set():
            raise Stopped
        page = list(ledger.filter(pk__gt=after).values_list("pk", *COLUMNS)[:PAGE])
        if not page:
            return
        after = page[-1][0]
        entries = [Entry.load(record[1:]) for record in page]
        table = stream.table.read([entry.key for entry in entries])
        for entry in entries:
            yield entry, table.get(entry.key)


@contextmanager
def snapshot(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """A read transaction: all reads inside see one state, and nobody waits for it."""
    with connection.cursor() as cursor:
        cursor.execute(vendor_of(connection).begin_snapshot)
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")
