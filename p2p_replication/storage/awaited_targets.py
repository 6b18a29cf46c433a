"""Foreign keys by natural key that are null for now, as this database lacks the target: they are set when it comes.

Their values are held in the ledger, with their clocks, and travel on from there. The target's model does not
replicate, so that nobody tells of its rows: they are looked for, with the parked rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any

from django.db import DataError

from p2p_replication.models.ledger import EntryStatus, LedgerEntry
from p2p_replication.storage.held_fields import PAGE, adopt_page
from p2p_replication.storage.ledger import load_entries
from p2p_replication.storage.references import NaturalReference
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore


def set_awaited_targets(database: ReplicaDatabase, stream: StreamStore) -> int:
    """Set the foreign keys whose targets have come; return the number of rows. Nothing is sent for it."""
    if not stream.awaits_targets:
        return 0
    references = {n: reference for n, reference in stream.table.references.natural.items() if reference.optional}
    done, after, left = 0, 0, False
    while True:
        page = list(
            LedgerEntry.objects.using(database.alias)
            .filter(stream=stream.id, status=EntryStatus.PRESENT, held__isnull=False, pk__gt=after)
            .order_by("pk")
            .values_list("pk", "key")[:PAGE]
        )
        if not page:
            stream.awaits_targets = left
            return done
        after = page[-1][0]
        entries = load_entries(database.connection, stream.id, [key for _, key in page])
        ready: set[str] = set()
        for name, reference in references.items():
            values = {key: entry.held[name] for key, entry in entries.items() if entry.held.get(name) is not None}
            there = _present(reference, set(values.values()))
            ready |= {key for key, value in values.items() if value in there}
            left = left or len(there) < len(set(values.values()))
        done += adopt_page(database, stream, sorted(ready)) if ready else 0


def _present(reference: NaturalReference, values: Collection[Any]) -> set[Any]:
    """Return the natural keys whose targets are there."""
    there: set[Any] = set()
    for value in values:
        with contextlib.suppress(ValueError, DataError):
            there |= reference.find([value], {}).keys()
    return there
