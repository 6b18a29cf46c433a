"""Parked rows as people see them: why they wait, and what would help."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from django.db.models import QuerySet

from p2p_replication.management.origins import OriginNames
from p2p_replication.models.ledger import Parking, Stream
from p2p_replication.storage.parking import CLOCK, LEAVING, MISSING_PARENT, REFERENCED, REFUSED, UNIQUE

#: What a person can do, by reason.
REMEDIES = {
    MISSING_PARENT: "Nothing to do if the row it refers to is on its way; it comes in behind it. If that never comes, "
    "declare the parent's model in the same pool, on both sides. If its model does not replicate, a user's, say, make "
    "the row here, with that name.",
    REFERENCED: "It is to be deleted, but rows here refer to it. Once everything that connected peers have is here, "
    "on_delete decides what becomes of those. Where it does not: delete them, or let them refer to another row.",
    LEAVING: "A peer has moved it out of the pool's filter, so that it is to leave this replica. Delete the rows here "
    "that refer to it, or let them refer to another row; it goes then. An edit that lets it match again keeps it.",
    CLOCK: "Set the clock right on the replica that wrote it (NTP). The row comes in when its time has come here.",
    REFUSED: "Change what the text speaks of, here or on a peer; or change the constraint. It comes in by itself then, "
    "or at once with: manage.py p2p parked --retry",
    UNIQUE: "Two replicas gave two rows the same value; the older row keeps it, on all replicas. Give one of the two "
    "another value or delete it, on the replica of your choice; this one comes back by itself then.",
}


@dataclass(frozen=True)
class ParkedRow:
    model: str
    key: str
    reason: str
    detail: str
    since: datetime.datetime
    tries: int
    #: Whose version it is.
    origin: str

    @property
    def remedy(self) -> str:
        return REMEDIES.get(self.reason, "")


def parked(database: str, label: str = "") -> QuerySet[Parking]:
    """Return why rows are parked (of one model, or all)."""
    found = Parking.objects.using(database).select_related("entry").order_by("since", "pk")
    if label:
        found = found.filter(entry__stream__in=Stream.objects.using(database).filter(label=label).values("pk"))
    return found


def parked_rows(database: str, label: str = "", key: str = "") -> list[ParkedRow]:
    """Return the parked rows, the oldest first: all, those of one model, or the one with this key."""
    found = parked(database, label)
    labels = dict(Stream.objects.using(database).values_list("pk", "label"))
    origins = OriginNames(database)
    return [
        ParkedRow(
            labels.get(parking.entry.stream, "?"),
            parking.entry.key,
            parking.reason,
            parking.detail,
            parking.since,
            parking.tries,
            origins.describe(parking.entry.origin),
        )
        for parking in (found.filter(entry__key=key) if key else found)
    ]
