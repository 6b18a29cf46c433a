"""What the worker writes of a pool's peers, for people to see."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db.models import F
from django.utils import timezone

from p2p_replication.models.pool import Declaration, Peer, PeerProgress, PeerState, Pool, PoolError
from p2p_replication.models.replica import Origin
from p2p_replication.pool.modifiers import Refusals
from p2p_replication.protocol.version_vector import Vector

#: The same error again within this time only counts up.
REPEATED = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class ModelReport:
    """One model between this replica and a peer."""

    declaration: int
    #: Digest of the filter that the session was opened with.
    filter_digest: str
    acknowledged: int
    confirmed: Vector
    rows_behind: int
    complete: bool
    gives: bool = True


@dataclass(frozen=True)
class PeerReport:
    """A connected peer as it is now. Counts are since the report before."""

    replica_id: str
    name: str
    user: str
    connected_at: float
    rows_in: int
    rows_out: int
    bytes_in: int
    bytes_out: int
    models: tuple[ModelReport, ...]


class PeerRefused(Exception):
    """The peer must not be let in; the text says why."""


class PeerRows:
    """The rows of one pool, in one database. Every call belongs into the database thread."""

    def __init__(self, alias: str, pool: int) -> None:
        self.alias = alias
        self.pool = pool

    def admit(self, replica_id: str, public_key: bytes, name: str, user: str) -> None:
        """Make the peer's row. Raises PeerRefused if the replica comes with another key than the one we know."""
        peer, _ = Peer.objects.using(self.alias).get_or_create(pool_id=self.pool, replica_id=replica_id)
        if peer.public_key and peer.public_key != public_key.hex():
            raise PeerRefused(
                f"replica {replica_id} comes with another key than before. If its key was really renewed, delete the "
                "peer in the admin; otherwise somebody poses as it."
            )
        peer.public_key = public_key.hex()
        peer.name, peer.user, peer.last_seen = name[:200], user[:200], timezone.now()
        peer.save(using=self.alias, update_fields=["public_key", "name", "user", "last_seen"])

    def name_origin(self, origin: str, replica_id: str) -> None:
        """Remember whose start an origin is: the first replica that comes under it."""
        origins = Origin.objects.using(self.alias)
        known, made = origins.get_or_create(origin=origin, defaults={"replica_id": replica_id})
        if not made and not known.replica_id:
            origins.filter(pk=known.pk).update(replica_id=replica_id)

    def refuse(self, replica_id: str, public_key: bytes, text: str) -> None:
        """Show a peer as refused, unless somebody else came under the name of one that is connected."""
        peers = Peer.objects.using(self.alias).filter(pool_id=self.pool, replica_id=replica_id)
        peers.filter(public_key=public_key.hex()).update(state=PeerState.REFUSED, last_error=text[:500])

    def add(self, reports: Sequence[PeerReport]) -> None:
        """Add the traffic of sessions that have ended to their peers' totals."""
        for report in reports:
            Peer.objects.using(self.alias).filter(pool_id=self.pool, replica_id=report.replica_id).update(
                rows_in=F("rows_in") + report.rows_in,
                rows_out=F("rows_out") + report.rows_out,
                bytes_in=F("bytes_in") + report.bytes_in,
                bytes_out=F("bytes_out") + report.bytes_out,
            )

    def write(self, reports: Sequence[PeerReport]) -> None:
        """Write the connected peers' state; peers without a report are gone."""
        known = {peer.replica_id: peer for peer in Peer.objects.using(self.alias).filter(pool_id=self.pool)}
        declarations = Declaration.objects.using(self.alias).select_for_update().filter(pool_id=self.pool)
        declared = dict(declarations.values_list("pk", "filter_digest")) if reports else {}
        for report in reports:
            peer = known.pop(report.replica_id, None)
            if peer is not None:
                self._write_peer(peer, report, declared)
        gone = [peer.pk for peer in known.values() if peer.state == PeerState.CONNECTED]
        if gone:
            Peer.objects.using(self.alias).filter(pk__in=gone).update(
                state=PeerState.GONE, in_sync=False, connected_since=None, last_seen=timezone.now()
            )
            PeerProgress.objects.using(self.alias).filter(peer_id__in=gone).update(complete=False)

    def _write_peer(self, peer: Peer, report: PeerReport, declared: Mapping[int, str]) -> None:
        peer.state = PeerState.CONNECTED
        peer.name, peer.user = report.name[:200], report.user[:200]
        peer.connected_since = datetime.datetime.fromtimestamp(report.connected_at, datetime.UTC)
        peer.last_seen = timezone.now()
        peer.rows_in += report.rows_in
        peer.rows_out += report.rows_out
        peer.bytes_in += report.bytes_in
        peer.bytes_out += report.bytes_out
        peer.rows_behind = sum(model.rows_behind for model in report.models)
        peer.in_sync = bool(report.models) and all(model.complete for model in report.models)
        peer.save(using=self.alias)
        for model in report.models:
            if declared.get(model.declaration) != model.filter_digest:
                continue  # It is about other rows by now.
            PeerProgress.objects.using(self.alias).update_or_create(
                peer=peer,
                declaration_id=model.declaration,
                defaults={
                    "acknowledged": model.acknowledged,
                    "confirmed": model.confirmed,
                    "rows_behind": model.rows_behind,
                    "complete": model.complete,
                    "gives": model.gives,
                },
            )

    def write_refused(self, declaration: int, inwards: bool, refused: Refusals) -> None:
        """Count rows that a modifier has refused, and keep the last one's key."""
        counted, last = ("refused_in", "last_refused_in") if inwards else ("refused_out", "last_refused_out")
        at = refused.at.isoformat() if refused.at is not None else ""
        Declaration.objects.using(self.alias).filter(pk=declaration).update(
            **{counted: F(counted) + refused.count, last: {"key": refused.key, "peer": refused.peer, "at": at}}
        )

    def write_error(self, text: str, replica_id: str = "", count: int = 1) -> None:
        """Keep an error for people."""
        text = text[:1000]
        errors = PoolError.objects.using(self.alias)
        known = errors.filter(
            pool_id=self.pool, text=text, replica_id=replica_id, at__gt=timezone.now() - REPEATED
        ).first()
        if known is not None:
            errors.filter(pk=known.pk).update(count=known.count + count)
        else:
            errors.create(pool_id=self.pool, text=text, replica_id=replica_id, count=count)
        if replica_id:
            peers = Peer.objects.using(self.alias).filter(pool_id=self.pool, replica_id=replica_id)
            peers.update(last_error=text[:500])

    def write_signaling_state(self, text: str) -> None:
        Pool.objects.using(self.alias).filter(pk=self.pool).update(signaling_state=text[:200])
