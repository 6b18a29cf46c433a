"""A pool is run by one worker at a time; a dead one's pools are taken over."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable

import pytest
from django.db import connections
from django.utils import timezone

from p2p_replication.models import Peer, PeerState, Pool
from p2p_replication.worker.leases import release_lease, take_lease
from tests.databases import SQLiteFile
from tests.live_replicas import LiveReplica, linked, until, use_database

Live = Callable[..., LiveReplica]


@pytest.fixture
def pool(new_file, django_db_blocker):
    """The number of a pool in the database of this thread."""
    known = connections["default"]
    with django_db_blocker.unblock():
        use_database(SQLiteFile(new_file("leases")))
        yield Pool.objects.create(topic="field-team").pk
        connections["default"].close()
    connections["default"] = known


def test_a_free_pool_is_taken_and_renewed_by_its_holder_only(pool: int) -> None:
    assert take_lease(pool, "one", 10)
    assert not take_lease(pool, "two", 10)
    assert take_lease(pool, "one", 20)
    row = Pool.objects.get()
    assert row.lease_holder == "one"
    assert row.has_live_worker


def test_a_lease_that_has_run_out_is_taken_over_and_lost_by_its_holder(pool: int) -> None:
    assert take_lease(pool, "one", -0.001)
    assert not Pool.objects.get().has_live_worker
    assert take_lease(pool, "two", 10)
    assert not take_lease(pool, "one", 10)


def test_a_released_lease_is_free_at_once_and_its_peers_are_gone(pool: int) -> None:
    take_lease(pool, "one", 10)
    Peer.objects.create(pool_id=pool, replica_id="x", state=PeerState.CONNECTED, in_sync=True)
    release_lease(pool, "one")
    assert Peer.objects.get().state == PeerState.GONE
    assert not Peer.objects.get().in_sync
    assert take_lease(pool, "two", 10)


def test_releasing_what_another_has_taken_over_changes_nothing(pool: int) -> None:
    take_lease(pool, "one", -0.001)
    take_lease(pool, "two", 10)
    Peer.objects.create(pool_id=pool, replica_id="x", state=PeerState.CONNECTED)
    release_lease(pool, "one")
    assert Pool.objects.get().lease_holder == "two"
    assert Peer.objects.get().state == PeerState.CONNECTED


def test_a_lease_from_a_clock_that_was_ahead_binds_nobody(pool: int) -> None:
    """A machine without a battery clock starts with a wrong one: that must not lock its pools up for hours."""
    Pool.objects.update(lease_holder="dead", lease_until=timezone.now() + datetime.timedelta(hours=5))
    assert not Pool.objects.get().has_live_worker
    assert take_lease(pool, "one", 10)


async def test_of_two_supervisors_one_runs_the_pool_and_the_other_takes_over(live: Live) -> None:
    first = live("a")
    await first.start()
    second = live("a2", first.site)
    await second.start(declared=False)
    await asyncio.sleep(1.2)
    assert second.supervisor is not None
    assert not second.supervisor.running
    await first.stop()
    await until(lambda: second.supervisor and second.supervisor.running, "the second one takes over", 5)


async def test_a_worker_that_was_stalled_does_not_spoil_what_its_successor_shows(live: Live) -> None:
    """The pool went to another worker meanwhile: the old one leaves it, and the peers stay shown as connected."""
    first, b = live("a"), live("b")
    await first.start()
    await b.start()
    await linked(first, b)
    b_id = b.replica_id
    # As if the first worker had slept: its lease has run out and another one was quicker.
    await first.do(Pool.objects.update, lease_holder="successor", lease_until=timezone.now())
    await first.do(lambda: take_lease(Pool.objects.get().pk, "successor", 15))
    await first.do(Peer.objects.filter(replica_id=b_id).update, state=PeerState.CONNECTED)
    assert first.supervisor is not None
    await until(lambda: first.supervisor and not first.supervisor.running, "the first one lets go")
    await asyncio.sleep(1.5)
    assert (await first.peers())[b_id].is_connected
