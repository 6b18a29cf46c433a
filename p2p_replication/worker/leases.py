"""Leases: which worker runs a pool. A worker that stops beating loses its pools to another one."""

from __future__ import annotations

import datetime

from django.db.models import Q
from django.utils import timezone

from p2p_replication.models.pool import Peer, PeerState, Pool


def take_lease(pool: int, holder: str, ttl: float) -> bool:
    """Take or renew the lease of a pool for ``ttl`` seconds; False if another live worker has it."""
    now = timezone.now()
    until = now + datetime.timedelta(seconds=ttl)
    free = Q(lease_until=None) | Q(lease_until__lt=now) | Q(lease_holder=holder) | Q(lease_holder="")
    # Nobody takes a lease for so long: it is from a clock that was ahead, and its worker is dead.
    free |= Q(lease_until__gt=until + datetime.timedelta(seconds=ttl))
    return bool(Pool.objects.filter(free, pk=pool).update(lease_holder=holder, lease_until=until))


def release_lease(pool: int, holder: str) -> None:
    """Give a pool up: its peers are not connected any more."""
    if Pool.objects.filter(pk=pool, lease_holder=holder).update(lease_holder="", lease_until=None, signaling_state=""):
        Peer.objects.filter(pool_id=pool, state=PeerState.CONNECTED).update(
            state=PeerState.GONE, in_sync=False, connected_since=None, last_seen=timezone.now()
        )
