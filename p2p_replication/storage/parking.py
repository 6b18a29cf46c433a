"""Parking: a ledger entry whose state the table can't hold yet keeps it, with the reason, and tries again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
from django.db.models import F

from p2p_replication.models.ledger import LedgerEntry, Parking
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore

MISSING_PARENT = "missing parent"
REFERENCED = "still referenced"
CLOCK = "clock ahead"
REFUSED = "refused by the database"
#: An older row has a unique value that the row is to have.
UNIQUE = "unique value taken"
BUSY = "locked by the application"
#: The row is to leave the table without being deleted; the detail says what keeps it.
LEAVING = "outside the filter, still here"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


def note_parked(database: ReplicaDatabase, stream: StreamStore, reasons: dict[str, tuple[str, str]]) -> None:
    """Record why entries are parked: ``{key: (reason, detail)}``. The entries are saved already."""
    ids = dict(
        LedgerEntry.objects.using(database.alias)
        .filter(stream=stream.id, key__in=list(reasons))
        .values_list("key", "pk")
    )
    manager = Parking.objects.using(database.alias)
    for key, (reason, detail) in reasons.items():
        parking, created = manager.get_or_create(
            entry_id=ids[key], defaults={"reason": reason, "detail": detail[:2000]}
        )
        if not created:
            manager.filter(pk=parking.pk).update(reason=reason, detail=detail[:2000], tries=F("tries") + 1)


def forget_parked(database: ReplicaDatabase, stream: StreamStore, keys: Iterable[str]) -> None:
    """The entries are parked no more."""
    Parking.objects.using(database.alias).filter(entry__stream=stream.id, entry__key__in=list(keys)).delete()


def busy_keys(database: ReplicaDatabase, stream: StreamStore, keys: Collection[str]) -> set[str]:
    """Return those of the keys whose entries are parked because the application had locked the row."""
    if not keys:
        return set()
    parked = Parking.objects.using(database.alias).filter(reason=BUSY, entry__stream=stream.id, entry__key__in=keys)
    return set(parked.values_list("entry__key", flat=True))


def keep_local_values(database: ReplicaDatabase, stream: StreamStore, kept: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep what parked rows had in columns that do not travel: ``{key: {field: value}}``, as the driver has it."""
    for key, values in kept.items():
        if values:
            Parking.objects.using(database.alias).filter(entry__stream=stream.id, entry__key=key).update(
                local_values=_encode(values)
            )


def end_parking(database: ReplicaDatabase, stream: StreamStore, keys: Collection[str]) -> None:
    """The entries' rows are in the table (or are to be in none): they get back what was kept, and are parked no more.

    Inside ``unlogged``, in a write transaction.
    """
    if not keys:
        return
    kept = (
        Parking.objects.using(database.alias)
        .filter(entry__stream=stream.id, entry__key__in=list(keys), local_values__isnull=False)
        .values_list("entry__key", "local_values")
    )
    for key, values in list(kept):
        stream.table.write_local(key, _decode(bytes(values or b"")))
    forget_parked(database, stream, keys)


def leaving_for(reason: tuple[str, str]) -> tuple[str, str]:
    """Return the reason of a row that is to leave the table, and can't for another reason."""
    return reason if reason[0] == LEAVING else (LEAVING, ": ".join(filter(None, reason)))


def leaving_keys(database: ReplicaDatabase, stream: StreamStore, keys: Collection[str]) -> set[str]:
    """Return those of the keys whose entries are parked because their rows can't leave the table yet."""
    if not keys:
        return set()
    parked = Parking.objects.using(database.alias).filter(reason=LEAVING, entry__stream=stream.id, entry__key__in=keys)
    return set(parked.values_list("entry__key", flat=True))
