"""Trying parked rows again, together: rows that wait for each other come in at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from django.db import OperationalError

from p2p_replication.models.ledger import EntryStatus, LedgerEntry, Parking
from p2p_replication.protocol.clock import NEVER, is_too_far_ahead
from p2p_replication.storage.applier import REFUSALS, is_busy, settle_entry, take_rows
from p2p_replication.storage.awaited_targets import set_awaited_targets
from p2p_replication.storage.clashes import settle_clashes
from p2p_replication.storage.ledger import Entry, save_entries
from p2p_replication.storage.parking import REFUSED, UNIQUE, end_parking, leaving_keys
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.subsets import declared_subsets
from p2p_replication.storage.table_changes import TableChanges
from p2p_replication.storage.unlogged import unlogged
from p2p_replication.storage.versions import state_of, store_state

#: Parked rows that are looked at in one transaction.
PAGE = 4000


def retry_parked(database: ReplicaDatabase) -> int:
    """Try all parked entries again; return how many are parked no more. Foreign keys that waited are set."""
    ended = 0
    for stream in database.streams.values():
        set_awaited_targets(database, stream)
    if not LedgerEntry.objects.using(database.alias).filter(status=EntryStatus.PARKED).exists():
        return 0
    refusals: list[str] = []
    # Not those that clash: who has the value is decided below, and no try could let them in.
    for refused in (False, True):
        after = 0
        while page := _page(database, after, refused):
            after = page[-1][0]
            ended += _retry(database, [(stream, key) for _, stream, key in page], refusals, swapping=refused)
    clashing = Parking.objects.using(database.alias).filter(reason__in=(REFUSED, UNIQUE))
    return ended + settle_clashes(database) if refusals or clashing.exists() else ended


def retry_rows(database: ReplicaDatabase, rows: Sequence[tuple[int, str]]) -> int:
    """Try some parked entries again, by stream and key, together; return how many are parked no more."""
    return _retry(database, rows, [], swapping=False)


def _page(database: ReplicaDatabase, after: int, refused: bool) -> list[tuple[int, int, str]]:
    """Return ``(id, stream, key)`` of entries that wait for something, or of those that the database refused."""
    entries = LedgerEntry.objects.using(database.alias).filter(
        status=EntryStatus.PARKED, stream__in=list(database.by_number), pk__gt=after
    )
    entries = (
        entries.filter(parking__reason=REFUSED) if refused else entries.exclude(parking__reason__in=(REFUSED, UNIQUE))
    )
    return list(entries.order_by("pk").values_list("pk", "stream", "key")[:PAGE])


def _retry(database: ReplicaDatabase, rows: Sequence[tuple[int, str]], refusals: list[str], *, swapping: bool) -> int:
    """Apply as many of the rows as have everything they need; if the database refuses, try the halves.

    Args:
        refusals: gets what the database says against them.
    """
    try:
        with database.writing():
            return _apply(database, rows, swapping and len(rows) > 1)
    except (*REFUSALS, OperationalError) as error:
        if isinstance(error, OperationalError) and not is_busy(database, error):
            raise
        if keys := getattr(error, "keys", None):
            free = [row for row in rows if row[1] not in keys]
            return _retry(database, free, refusals, swapping=swapping) if free else 0
        refusals.append(str(error))
        if len(rows) == 1:
            return 0
        middle = len(rows) // 2
        first = _retry(database, rows[:middle], refusals, swapping=swapping)
        return first + _retry(database, rows[middle:], refusals, swapping=swapping)


def _apply(database: ReplicaDatabase, rows: Sequence[tuple[int, str]], swapping: bool) -> int:
    by_stream: dict[int, list[str]] = defaultdict(list)
    for number, key in rows:
        by_stream[number].append(key)
    plans: list[tuple[StreamStore, TableChanges, dict[str, Entry]]] = []
    hidden: set[tuple[int, str]] = set()
    for number, keys in by_stream.items():
        stream = database.by_number[number]
        entries, present = take_rows(database, stream, keys)
        leaving = leaving_keys(database, stream, list(entries))
        subsets = declared_subsets(database, stream) if leaving else []
        plan = TableChanges(stream)
        candidates: dict[str, Entry] = {}
        for key, entry in entries.items():
            state = state_of(stream, entry, None)
            ahead = is_too_far_ahead(state.latest(), database.now_ms(), database.max_skew_ms)
            if entry.status != EntryStatus.PARKED or ahead:
                continue
            candidates[key] = entry
            if key in leaving and state.alive and not any(subset.includes(state) for subset in subsets):
                plan.hide(key, present.get(key))
                hidden.add((stream.id, key))
            else:
                # A row that is there may be of an earlier life: the ledger has the parked one only.
                plan.add(key, state, present.get(key), of_earlier_life=state.deleted > NEVER)
        plans.append((stream, plan, candidates))
    _take_out_what_still_waits(plans)
    ended = 0
    with unlogged(database):
        new = {table: keys for _, plan, _ in plans for table, keys in plan.new_keys().items()}
        for stream, plan, candidates in plans:
            plan.write(swapping=swapping, new=new)
            end_parking(database, stream, candidates)
    for stream, plan, candidates in plans:
        for key, entry in candidates.items():
            if (stream.id, key) in hidden:
                store_state(stream, entry, state_of(stream, entry, None), EntryStatus.HIDDEN)
            else:
                settle_entry(stream, entry, state_of(stream, entry, None), plan.awaited.get(key, ()))
        save_entries(database.connection, stream.id, list(candidates.values()))
        if candidates:
            database.note_changed([stream.label])
        ended += len(candidates)
    return ended


def _take_out_what_still_waits(plans: Sequence[tuple[StreamStore, TableChanges, dict[str, Entry]]]) -> None:
    """A row may wait for a row of another model that is parked as well: repeat until nothing more falls out."""
    while True:
        arriving = {(stream.table.name, stream.table.key_column): set(plan.inserts) for stream, plan, _ in plans}
        leaving = {(stream.table.name, stream.table.key_column): set(plan.deletes) for stream, plan, _ in plans}
        fell_out = False
        for _, plan, candidates in plans:
            for key in plan.refused(arriving, leaving):
                del candidates[key]
                fell_out = True
        if not fell_out:
            return
