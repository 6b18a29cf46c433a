"""``manage.py p2p status``: what it shows, and what ``--check`` finds."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from p2p_replication.models import Declaration, Gap, Peer, PeerState, Pool, PoolError, Stream
from p2p_replication.transport.memory import MemoryHub
from tests.live_replicas import LABELS, TOPIC, LiveReplica, equal, linked, until
from tests.management.commands import on, run, run_json
from tests.testapp.models import Note

Live = Callable[..., LiveReplica]


async def statused(replica: LiveReplica) -> dict[str, Any]:
    status, error = await on(replica, "status")
    assert error == ""
    return status


async def test_a_running_replica_shows_its_pool_its_peer_and_its_models(live: Live) -> None:
    a, b = live("a"), live("b")
    notes = await a.do(Note.objects.bulk_create, [Note(title=f"n{i}") for i in range(7)])
    await a.start()
    await b.start()
    await linked(a, b)
    await a.do(notes[0].delete)
    await equal(a, b)

    async def in_sync() -> bool:
        peers = (await statused(a))["pools"][0]["peers"]
        return bool(peers) and peers[0]["in_sync"] and not peers[0]["unacknowledged"]

    await until(in_sync, "b is shown as in sync")
    status = await statused(a)
    assert status["replica"] == a.replica_id
    (pool,) = status["pools"]
    assert (pool["topic"], pool["account"], pool["models"]) == (TOPIC, "default", sorted(LABELS))
    assert pool["has_live_worker"] and pool["worker"]
    (peer,) = pool["peers"]
    assert (peer["replica"], peer["state"], peer["rows_behind"]) == (b.replica_id, "connected", 0)
    note = next(model for model in status["models"] if model["model"] == "testapp.Note")
    counts = ("table_rows", "present", "deleted", "parked", "waiting", "conflicts")
    assert [note[name] for name in counts] == [6, 6, 1, 0, 0, 0]
    assert note["pools"] == [TOPIC]
    assert status["attention"] == []
    printed, error = await a.do(run, "status", "--check")
    assert error == ""
    assert "connected, in sync" in printed and "Nothing needs attention." in printed
    assert max(map(len, printed.splitlines())) <= 100


async def test_what_a_peer_has_not_acknowledged_is_counted(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    b_id = b.replica_id

    async def connected() -> bool:
        peers = await a.peers()
        return b_id in peers and peers[b_id].is_connected

    await until(connected, "b is shown")
    await b.stop()
    for i in range(3):
        await a.create(title=f"n{i}")

    async def counted() -> bool:
        (peer,) = (await statused(a))["pools"][0]["peers"]
        return (peer["state"], peer["unacknowledged"]) == ("gone", 3)

    await until(counted, "three changes are not acknowledged")


async def test_a_worker_that_was_killed_leaves_no_peer_connected(live: Live, hub: MemoryHub) -> None:
    a = live("a")
    await a.start()
    await a.stop()
    pool = await a.do(Pool.objects.get)
    await a.do(Peer.objects.create, pool=pool, replica_id="f" * 32, state=PeerState.CONNECTED, in_sync=True)
    status = await statused(a)
    assert status["pools"][0]["peers"][0]["state"] == "gone"
    assert not status["pools"][0]["peers"][0]["in_sync"]
    printed, error = await a.do(run, "status", "--check")
    assert "worker: none is alive" in printed and "manage.py runp2psync" in printed
    assert error == "Things that need attention: 1."


async def test_parked_rows_need_attention(live: Live) -> None:
    a, b = live("a"), live("b")
    shelf = await a.create("testapp.Shelf", name="s")
    await a.create("testapp.Book", title="t", shelf=shelf)
    await a.start("testapp.Book")
    await b.start("testapp.Book")
    await until(b.parked, "the book is parked")
    status = await statused(b)
    assert status["attention"] == [
        "testapp.Book: 1 rows are parked. See why: manage.py p2p parked testapp.Book",
    ]


@pytest.mark.django_db
def test_before_anything_is_declared() -> None:
    printed, error = run("status", "--check")
    assert "id none yet" in printed and "No pool is declared" in printed
    assert error == ""


@pytest.mark.django_db
def test_gaps_drift_and_errors_of_the_last_hour_need_attention() -> None:
    Note.objects.sync_p2p(TOPIC)
    pool = Pool.objects.get()
    PoolError.objects.create(pool=pool, text="just now\x1b[31m " * 30, count=3)
    old = PoolError.objects.create(pool=pool, text="long ago")
    PoolError.objects.filter(pk=old.pk).update(at=timezone.now() - datetime.timedelta(hours=2))
    Gap.objects.create(stream=Stream.objects.get(label="testapp.Note"), reason="a migration")
    Stream.objects.filter(label="testapp.Shelf").update(trigger_digest="")
    status, _ = run_json("status")
    assert [error["count"] for error in status["pools"][0]["errors"]] == [3]
    wanted = ("runp2psync", "errors in the last hour", "a migration", "testapp.Shelf: it has no capture triggers")
    for text, found in zip(wanted, status["attention"], strict=True):
        assert text in found
    printed, error = run("status", "--check")
    assert error == "Things that need attention: 4."
    assert "long ago" not in printed and "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= 100


@pytest.mark.django_db
def test_directions_and_what_modifiers_have_refused_are_shown() -> None:
    Note.objects.sync_p2p(TOPIC, push=None)
    last = {"key": "01ab", "peer": "cd" * 16, "at": "2026-11-27T01:02:03+00:00"}
    Declaration.objects.update(refused_in=12, last_refused_in=last)
    status, _ = run_json("status")
    refused = "pull.modifier has refused 12 rows, the last one 01ab of cdcdcdcd, 2026-11-27 01:02 UTC"
    assert status["pools"][0]["notes"] == ["testapp.Note: pull only", f"testapp.Note: {refused}"]
    printed, _ = run("status")
    assert "testapp.Note: pull only" in printed and "has refused 12 rows" in printed
    assert max(map(len, printed.splitlines())) <= 100
    Declaration.objects.update(pull=None, push={}, refused_out=1, last_refused_out=last)
    status, _ = run_json("status")
    assert status["pools"][0]["notes"][0] == "testapp.Note: push only"
    assert "push.modifier has refused 1 rows, the last one 01ab for cdcdcdcd" in status["pools"][0]["notes"][2]


@pytest.mark.django_db
def test_a_cancelled_pool_and_a_model_that_is_gone_are_shown_as_such() -> None:
    handle = Note.objects.sync_p2p(TOPIC)
    handle.pool.declarations.create(model="gone.Model")
    status, _ = run_json("status")
    gone = next(model for model in status["models"] if model["model"] == "gone.Model")
    assert "does not replicate in this project" in gone["capture"]
    assert any(text.startswith("gone.Model") and "Cancel its part" in text for text in status["attention"])
    handle.pool.cancel()
    printed, error = run("status", "--check")
    assert f"Pool {TOPIC}, account default: cancelled" in printed
    assert error == ""
