"""Fields that a newer schema's peers sent are held in the ledger; once this schema knows them, they go to the table."""

from __future__ import annotations

import time

from p2p_replication.models.ledger import EntryStatus, LedgerEntry
from p2p_replication.storage.applier import BUSY_PAUSE, BUSY_TRIES, REFUSALS, settle_entry, take_rows
from p2p_replication.storage.ledger import save_entries
from p2p_replication.storage.parking import BUSY, REFUSED, note_parked
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.table import Busy
from p2p_replication.storage.table_changes import TableChanges
from p2p_replication.storage.unlogged import unlogged
from p2p_replication.storage.versions import state_of, store_state

PAGE = 200


def adopt_known_fields(database: ReplicaDatabase) -> int:
    """Write held values of fields that the tables have by now into them; return the number of rows.

    The row's state stays what it was, as the values had their clocks all along: nothing is sent for it.
    """
    held = LedgerEntry.objects.using(database.alias).filter(status=EntryStatus.PRESENT, held__isnull=False)
    holding = set(held.values_list("stream", flat=True).distinct())
    return sum(_adopt_stream(database, stream) for stream in database.streams.values() if stream.id in holding)


def _adopt_stream(database: ReplicaDatabase, stream: StreamStore) -> int:
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
        adopted += adopt_page(database, stream, [key for _, key in page])


def adopt_page(database: ReplicaDatabase, stream: StreamStore, keys: list[str]) -> int:
    """Write what is held for fields of the table into these rows, in one transaction; return the number of rows.

    What the table can't take is parked.
    """
    aside: dict[str, tuple[str, str]] = {}
    tries = 0
    while True:
        tries += 1
        try:
            with database.writing():
                return _adopt(database, stream, keys, aside)
        except Busy as error:
            if tries <= BUSY_TRIES:
                time.sleep(BUSY_PAUSE)
            elif error.keys:
                aside.update(dict.fromkeys(error.keys, (BUSY, str(error))))
            else:
                raise
        except REFUSALS as error:
            # A value that its column can't take, or that refers to a row which is not there.
            if len(keys) > 1:
                return sum(adopt_page(database, stream, [key]) for key in keys)
            if aside:
                raise
            aside[keys[0]] = (REFUSED, str(error) or "error")


def _adopt(database: ReplicaDatabase, stream: StreamStore, keys: list[str], aside: dict[str, tuple[str, str]]) -> int:
    plan, settled, adopted, parked = TableChanges(stream), [], [], {}
    # What the application wrote into the new field since counts first.
    entries, rows = take_rows(database, stream, keys, aside)
    for key, entry in entries.items():
        row = rows.get(key)
        if entry.status != EntryStatus.PRESENT or row is None or not entry.held.keys() & stream.table.codecs.keys():
            continue
        state = state_of(stream, entry, row)
        if key in aside:
            store_state(stream, entry, state, EntryStatus.PARKED)
            parked[key] = aside[key]
        else:
            plan.add(key, state, row)
            adopted.append((entry, state))
        settled.append(entry)
    with unlogged(database):
        plan.write()
    for entry, state in adopted:
        settle_entry(stream, entry, state, plan.awaited.get(entry.key, ()))
    save_entries(database.connection, stream.id, settled)
    note_parked(database, stream, parked)
    return len(settled)
