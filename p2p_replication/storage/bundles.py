"""Applying batches of several models in one transaction: what was written together arrives together.

The sender has read them from one snapshot, in which each of its application's transactions is as a whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import OperationalError

from p2p_replication.models.ledger import EntryStatus, LedgerEntry
from p2p_replication.protocol.messages import Changes
from p2p_replication.storage.applier import REFUSALS, Applied, apply_changes, is_busy
from p2p_replication.storage.changes import TOGETHER_ROWS
from p2p_replication.storage.ledger import chunks
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.retry import retry_rows
from p2p_replication.storage.subsets import Subset


@dataclass(frozen=True)
class Delivery:
    """One model's batch, and where it goes."""

    stream: StreamStore
    declaration: int
    changes: Changes
    subset: Subset


def apply_together(database: ReplicaDatabase, peer: str, deliveries: Sequence[Delivery]) -> list[Applied] | None:
    """Apply batches of a peer in one transaction.

    Returns None, and has applied nothing, if they are too long for that, if the database is against one of the rows,
    or the application has one locked: then each batch has to find its way alone. Raises as ``apply_changes`` does.
    """
    count = sum(len(delivery.changes.rows.keys) for delivery in deliveries)
    if count > TOGETHER_ROWS:
        return None
    began = time.monotonic()
    try:
        with database.writing():
            applied = [
                apply_changes(
                    database, delivery.stream, delivery.declaration, peer, delivery.changes, delivery.subset, whole=True
                )
                for delivery in deliveries
            ]
            if any(outcome.parked for outcome in applied):
                _settle(database, deliveries, applied)
        database.budget.measured(count, time.monotonic() - began)
        return applied
    except REFUSALS:
        return None
    except OperationalError as error:
        if not is_busy(database, error):
            raise
        return None


def _settle(database: ReplicaDatabase, deliveries: Sequence[Delivery], applied: Sequence[Applied]) -> None:
    """Let in what had to wait for a later batch of the bundle: rows of a cycle, parents whose children go as well."""
    both = list(zip(deliveries, applied, strict=True))
    retry_rows(database, [(delivery.stream.id, key) for delivery, outcome in both for key in outcome.parked])
    for delivery, outcome in both:
        entries = LedgerEntry.objects.using(database.alias).filter(stream=delivery.stream.id, status=EntryStatus.PARKED)
        still = {
            key
            for chunk in chunks(list(outcome.parked))
            for key in entries.filter(key__in=chunk).values_list("key", flat=True)
        }
        outcome.parked = {key: reason for key, reason in outcome.parked.items() if key in still}
