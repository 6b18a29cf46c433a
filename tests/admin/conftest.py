"""A pool as a worker would have written it, and people who look at it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from p2p_replication.models import (
    Conflict,
    ConflictKind,
    Declaration,
    EntryStatus,
    FieldLayout,
    LedgerEntry,
    Parking,
    Peer,
    PeerProgress,
    PeerState,
    Pool,
    PoolError,
    Stream,
)

SCRIPT = "<script>alert('peer')</script>"
NOW = timezone.now


def seconds(count: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=count)


def beat(pool: Pool, left: float = 9.0) -> None:
    """A worker renews its lease; ``left`` seconds of it are still to come."""
    Pool.objects.filter(pk=pool.pk).update(
        lease_holder="host:1234", lease_until=NOW() + seconds(left), signaling_state="connected as ana"
    )


@pytest.fixture
def pool(db: None) -> Pool:
    """A pool with a live worker and two declared models."""
    pool = Pool.objects.create(topic="field-team")
    Declaration.objects.create(pool=pool, model="testapp.Note")
    Declaration.objects.create(pool=pool, model="testapp.Book", source="app.p2p.BookReplication")
    Stream.objects.filter(label="testapp.Note").update(own_vector={"aa": 40, "bb": 41})
    beat(pool)
    return pool


@pytest.fixture
def peer(pool: Pool) -> Peer:
    """A connected peer in sync, with a name that it chose badly."""
    return add_peer(pool, "ab" * 16, SCRIPT)


def add_peer(pool: Pool, replica_id: str, name: str, **fields: Any) -> Peer:
    values = {
        "user": "ben", "state": PeerState.CONNECTED, "connected_since": NOW(), "last_seen": NOW(),
        "rows_in": 1234, "rows_out": 56, "bytes_in": 2048, "bytes_out": 100, "in_sync": True,
    }  # fmt: skip
    peer = Peer.objects.create(pool=pool, replica_id=replica_id, name=name, **{**values, **fields})
    for declaration in pool.declarations.all():
        PeerProgress.objects.create(peer=peer, declaration=declaration, acknowledged=41, complete=True)
    return peer


def add_error(pool: Pool, text: str, **fields: Any) -> PoolError:
    return PoolError.objects.create(pool=pool, text=text, **fields)


def park(label: str, key: str, reason: str = "missing parent", detail: str = "testapp.Shelf 1") -> Parking:
    stream = Stream.objects.get(label=label)
    layout = FieldLayout.objects.filter(stream=stream).first()
    entry = LedgerEntry.objects.create(
        stream=stream.pk, key=key, status=EntryStatus.PARKED, inserted=1, clock=1, layout=layout.pk if layout else 0,
        origin=1, counter=1, born_origin=1, born_counter=1, seq=1,
    )  # fmt: skip
    return Parking.objects.create(entry=entry, reason=reason, detail=detail)


def lose(label: str, key: str, **lost: Any) -> Conflict:
    """The values lost, to the peer's."""
    packed = [msgspec.msgpack.encode(values) for values in (lost, dict.fromkeys(lost, "won"))]
    return Conflict.objects.create(
        model=label, key=key, kind=ConflictKind.OVERWRITTEN, fields=list(lost), lost=packed[0], won=packed[1],
        lost_clock=1 << 20, won_clock=2 << 20, lost_by="ab" * 16, won_by="cdcd",
    )  # fmt: skip


@pytest.fixture
def visitor(db: None) -> Callable[..., Client]:
    """``visitor("view_pool", ...)``: the browser of a member of staff with these permissions; none named: superuser."""

    def make(*permissions: str, enforce_csrf: bool = False) -> Client:
        user = User.objects.create(username=f"staff{User.objects.count()}", is_staff=True, is_active=True)
        user.is_superuser = not permissions
        user.save()
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client(enforce_csrf_checks=enforce_csrf)
        client.force_login(user)
        return client

    return make
