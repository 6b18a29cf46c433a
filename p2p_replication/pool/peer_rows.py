"""What the worker writes of a pool's peers, for people to see: on change, at most once a second."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.utils import timezone

from p2p_replication.models.pool import Peer, PeerProgress, PeerState, Pool, PoolError


@dataclass(frozen=True)
class ModelReport:
    """One model between this replica and a peer."""

    declaration: int
    acknowledged: int
    rows_behind: int
    complete: bool


@dataclass(frozen=True)
class PeerReport:
    """A peer as it is now. Counts are since the last report was written."""

    replica_id: str
    name: str
    user: str
    connected_at: float
    rows_in: int = 0
    rows_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    models: tuple[ModelReport, ...] = field(default_factory=tuple)


class PeerRefused(Exception):
    """The peer must not be let in; the text says why."""


def admit(pool: int, replica_id: str, public_key: bytes, name: str, user: str) -> None:
    """Make the peer's row. Raises PeerRefused if the replica comes with another key than the one we know it by."""
    peer, _ = Peer.objects.get_or_create(pool_id=pool, replica_id=replica_id)
    if peer.public_key and peer.public_key != public_key.hex():
        raise PeerRefused(
            f"replica {replica_id} comes with another key than before. If its key was really renewed, delete the "
            "peer in the admin; otherwise somebody poses as it."
        )
    peer.public_key = public_key.hex()
    peer.name, peer.user = name[:200], user[:200]
    peer.save(update_fields=["public_key", "name", "user"])


def write_reports(pool: int, reports: Sequence[PeerReport]) -> None:
    """Write the connected peers' state; peers without a report are gone."""
    now = timezone.now()
    known = {peer.replica_id: peer for peer in Peer.objects.filter(pool_id=pool)}
    for report in reports:
        peer = known.pop(report.replica_id, None)
        if peer is None:
            continue
        peer.state = PeerState.CONNECTED
        peer.name, peer.user = report.name[:200], report.user[:200]
        peer.connected_since = datetime.datetime.fromtimestamp(report.connected_at, datetime.UTC)
        peer.last_seen = now
        peer.rows_in += report.rows_in
        peer.rows_out += report.rows_out
        peer.bytes_in += report.bytes_in
        peer.bytes_out += report.bytes_out
        peer.rows_behind = sum(model.rows_behind for model in report.models)
        peer.in_sync = bool(report.models) and all(model.complete for model in report.models)
        peer.save()
        for model in report.models:
            PeerProgress.objects.update_or_create(
                peer=peer,
                declaration_id=model.declaration,
                defaults={
                    "acknowledged": model.acknowledged,
                    "rows_behind": model.rows_behind,
                    "complete": model.complete,
                },
            )
    gone = [peer.pk for peer in known.values() if peer.state == PeerState.CONNECTED]
    if gone:
        Peer.objects.filter(pk__in=gone).update(state=PeerState.GONE, in_sync=False, connected_since=None)
        PeerProgress.objects.filter(peer_id__in=gone).update(complete=False)


def write_error(pool: int, text: str, replica_id: str = "", count: int = 1) -> None:
    """Keep an error for people; the same text again within an hour only counts up."""
    text = text[:1000]
    recent = timezone.now() - datetime.timedelta(hours=1)
    known = PoolError.objects.filter(pool_id=pool, text=text, replica_id=replica_id, at__gt=recent).first()
    if known is not None:
        PoolError.objects.filter(pk=known.pk).update(count=known.count + count)
    else:
        PoolError.objects.create(pool_id=pool, text=text, replica_id=replica_id, count=count)
    if replica_id:
        Peer.objects.filter(pool_id=pool, replica_id=replica_id).update(last_error=text[:500])


def write_signaling_state(pool: int, text: str) -> None:
    Pool.objects.filter(pk=pool).update(signaling_state=text[:200])
