"""Applying batches of several models in one transaction: what was written together arrives together.

The sender has read them from one snapshot, in which each of its application's transactions is as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import OperationalError

from p2p_replication.models.ledger import EntryStatus, LedgerEntry
from p2p_replication.protocol.messages import Changes
from p2p_replication.storage.applier import REFUSALS, Applied, apply_changes, is_busy
from p2p_replication.storage.changes import TOGETHER_ROWS
from p2p_replication.storage.ledger import chunks
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.retry import retry_parked
from p2p_replication.storage.subsets import Subset

#: With more parked rows than this, those that wait for each other come in by the next regular retry.
MAX_RETRIED = 200


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
    if sum(len(delivery.changes.rows.keys) for delivery in deliveries) > TOGETHER_ROWS:
        return None
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
            return applied
    except REFUSALS:
        return None
    except OperationalError as error:
        if not is_busy(database, error):
            raise
        return None


def _settle(database: ReplicaDatabase, deliveries: Sequence[Delivery], applied: Sequence[Applied]) -> None:
    """Let in what had to wait for a later batch of the bundle: rows of a cycle, parents whose children go as well."""
    if LedgerEntry.objects.using(database.alias).filter(status=EntryStatus.PARKED).count() > MAX_RETRIED:
        return
    retry_parked(database)
    for delivery, outcome in zip(deliveries, applied, strict=True):
        entries = LedgerEntry.objects.using(database.alias).filter(stream=delivery.stream.id, status=EntryStatus.PARKED)
        still = {
            key
            for chunk in chunks(list(outcome.parked))
            for key in entries.filter(key__in=chunk).values_list("key", flat=True)
        }
        outcome.parked = {key: reason for key, reason in outcome.parked.items() if key in still}
