"""Whose changes they are: the replicas behind the origins in a row's dots, as far as this database knows them."""

from __future__ import annotations

from p2p_replication.conf import app_settings
from p2p_replication.management.layout import replica_name
from p2p_replication.models.pool import Peer
from p2p_replication.models.replica import Origin, Replica, Start


class OriginNames:
    """Names the replicas behind origins (given by their local numbers)."""

    def __init__(self, database: str) -> None:
        self.database = database
        self._origins = {origin.pk: origin for origin in Origin.objects.using(database).all()}
        self._own = set(Start.objects.using(database).values_list("origin_id", flat=True))
        self._names = {peer.replica_id: peer.name for peer in Peer.objects.using(database).all()}
        self._replica = Replica.objects.using(database).values_list("replica_id", flat=True).first() or ""

    def replica_of(self, number: int) -> str:
        """Return the id of the replica that an origin belongs to, empty if it is not known."""
        if number in self._own:
            return self._replica
        origin = self._origins.get(number)
        return origin.replica_id if origin is not None else ""

    def id_of(self, number: int) -> str:
        """Return the origin's id, as it travels."""
        origin = self._origins.get(number)
        return origin.origin if origin is not None else f"number {number}"

    def describe(self, number: int) -> str:
        """Say whose an origin is."""
        if number in self._own:
            return f"this replica ({app_settings.NAME})"
        replica = self.replica_of(number)
        if replica:
            return replica_name(replica, self._names.get(replica, ""))
        return f"a replica not met directly (origin {self.id_of(number)})"
