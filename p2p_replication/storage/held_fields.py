"""Fields that a newer schema's peers sent are held in the ledger; once this schema knows them, they go to the table."""

from __future__ import annotations

import time

from p2p_replication.models.ledger import EntryStatus, LedgerEntry
from p2p_replication.storage.applier import BUSY_PAUSE, lock_rows, settle_entry
from p2p_replication.storage.ledger import load_entries, save_entries
from p2p_replication.storage.posting import post_keys
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.table import Busy
from p2p_replication.storage.table_changes import TableChanges
from p2p_replication.storage.unlogged import unlogged
from p2p_replication.storage.versions import state_of

PAGE = 200


def adopt_known_fields(database: ReplicaDatabase, stream: StreamStore) -> int:
    """Write held values of fields that the table has by now into it; return the number of rows.

    The row's state stays what it was, as the values had their clocks all along: nothing is sent for it.
    """
    adopted, after = 0, 0
    while True:
        page = list(
            LedgerEntry.objects.using(database.alias)
            .filter(stream=stream.id, status=EntryStatus.PRESENT, held__isnull=False, pk__gt=after)
            .order_by("pk")
            .values_list("pk", "key")[:PAGE]
        )
        if not page:
            return adopted
        after = page[-1][0]
        adopted += _adopt_page(database, stream, [key for _, key in page])


def _adopt_page(database: ReplicaDatabase, stream: StreamStore, keys: list[str]) -> int:
    while True:
        try:
            with database.writing():
                lock_rows(database, stream, keys)
                return _adopt(database, stream, keys)
        except Busy:
            time.sleep(BUSY_PAUSE)


def _adopt(database: ReplicaDatabase, stream: StreamStore, keys: list[str]) -> int:
    # What the application wrote into the new field since counts first.
    post_keys(database, stream, keys)
    rows = stream.table.read(keys)
    plan, settled = TableChanges(stream), []
    for key, entry in load_entries(database.connection, stream.id, keys).items():
        row = rows.get(key)
        if entry.status != EntryStatus.PRESENT or row is None or not entry.held.keys() & stream.table.codecs.keys():
            continue
        state = state_of(stream, entry, row)
        plan.add(key, state, row)
        settle_entry(stream, entry, state)
        settled.append(entry)
    with unlogged(database):
        plan.write()
    save_entries(database.connection, stream.id, settled)
    return len(settled)
