"""What the supervisor makes of the declarations, while it runs."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

import p2p_replication
from p2p_replication.exceptions import P2PError
from p2p_replication.models import Declaration, Pool
from p2p_replication.models.handle import PoolHandle
from p2p_replication.registry import registry
from p2p_replication.worker import setups, supervisor
from tests.live_replicas import LiveReplica, linked, until
from tests.testapp.models import Note, Shelf

Live = Callable[..., LiveReplica]


def handle() -> PoolHandle:
    return PoolHandle(Pool.objects.get(), Note)


def parts_of(replica: LiveReplica) -> dict[str, set[str]]:
    """Return what runs: the models by topic."""
    assert replica.supervisor is not None
    return {r.pool.setup.topic: set(r.pool.parts) for r in replica.supervisor.running.values()}


async def test_a_pool_declared_while_the_worker_runs_is_picked_up(live: Live) -> None:
    a = live("a")
    await a.start(declared=False)
    assert parts_of(a) == {}
    await a.do(p2p_replication.sync_p2p, Note, "first topic")
    await until(lambda: parts_of(a) == {"first topic": {"testapp.Note"}}, "the pool runs")
    await a.do(p2p_replication.sync_p2p, Shelf, "first topic")
    await a.do(p2p_replication.sync_p2p, Shelf, "second topic")
    both = {"first topic": {"testapp.Note", "testapp.Shelf"}, "second topic": {"testapp.Shelf"}}
    await until(lambda: parts_of(a) == both, "the second model and the second pool run")


async def test_a_cancelled_pool_ends_and_its_peers_see_it_leave(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start("testapp.Note")
    await b.start("testapp.Note")
    await linked(a, b)
    await a.do(lambda: handle().cancel())
    await until(lambda: parts_of(a) == {}, "the pool has ended")
    await until(lambda: not b.links, "b sees it leave")

    async def given_back() -> bool:
        return not (await a.do(Pool.objects.get)).has_live_worker

    await until(given_back, "the lease is given back")
    await a.do(p2p_replication.sync_p2p, Note, "field-team")
    await linked(a, b)


@pytest.mark.parametrize("change", ["restart", "batch size"])
async def test_a_changed_pool_starts_anew_and_replicates(live: Live, change: str) -> None:
    a, b = live("a"), live("b")
    await a.start("testapp.Note")
    await b.start("testapp.Note")
    await linked(a, b)
    before = a.links[0]
    if change == "restart":
        await a.do(lambda: handle().restart())
    else:
        await a.do(p2p_replication.sync_p2p, Note, "field-team", pull={"batch_size": 7})
    await until(lambda: not before.is_open, "the old connection is closed")
    await linked(a, b)
    assert a.pool.parts["testapp.Note"].batch_size == (0 if change == "restart" else 7)
    await b.create(title="after the change")
    await until(lambda: a.count(title="after the change"), "the row arrives")


async def test_declaring_the_same_again_disturbs_nothing(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    before = a.links[0]
    await a.do(p2p_replication.sync_p2p, Note, "field-team")
    await asyncio.sleep(1.5)
    assert before.is_open


async def test_pools_of_the_code_are_declared_at_the_start_and_go_with_it(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = registry.for_model(Note)
    assert registry._options is not None
    declared = dataclasses.replace(options, pools=({"topic": "by the code"},), source="tests.p2p.NoteReplication")
    a = live("a")
    monkeypatch.setitem(registry._options, options.label, declared)
    await a.start(declared=False)
    assert parts_of(a) == {"by the code": {"testapp.Note"}}
    assert (await a.do(Declaration.objects.get)).source == "tests.p2p.NoteReplication"
    await a.stop()
    monkeypatch.setitem(registry._options, options.label, options)
    await a.start(declared=False)
    assert parts_of(a) == {}


@pytest.mark.parametrize(
    "pool",
    [
        {"topic": "by the code", "account": "nobody"},
        {"topic": "by the code", "pull": {"batch_size": 50}},
        {"topic": "by the code", "colour": "green"},
        {"topics": "by the code"},
        {"topic": "short"},
    ],
    ids=["account", "pull", "unknown key", "no topic", "short topic"],
)
async def test_a_pool_of_the_code_that_cannot_work_is_named_or_works(
    live: Live, monkeypatch: pytest.MonkeyPatch, pool: dict[str, Any]
) -> None:
    """Options that sync_p2p() takes are taken; anything else ends in an error that says what is wrong."""
    options = registry.for_model(Note)
    assert registry._options is not None
    monkeypatch.setitem(registry._options, options.label, dataclasses.replace(options, pools=(pool,)))
    a = live("a")
    if "pull" in pool:
        await a.start(declared=False)
        assert a.pool.parts["testapp.Note"].batch_size == 50
        return
    wrong = {"account": "nobody", "colour": "colour", "topics": "topic", "topic": "short"}
    name = next(key for key in wrong if key in pool)
    try:
        await a.start(declared=False)
    except P2PError as error:
        assert wrong[name] in str(error)
    else:

        async def told() -> bool:
            return any(wrong[name] in text for text in await a.errors())

        await until(told, "an error names it", 3)


async def test_pools_that_cannot_run_say_so_once_and_others_go_on(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    a, b = live("a"), live("b")
    await a.do(Pool.objects.create, topic="no account", account="nobody")
    await a.do(Pool.objects.create, topic="no handler", connection_handler="carrier pigeon")
    await a.do(lambda: Declaration.objects.create(pool=Pool.objects.get(topic="no account"), model="testapp.Note"))
    await a.do(lambda: Declaration.objects.create(pool=Pool.objects.get(topic="no handler"), model="testapp.Note"))
    with caplog.at_level(logging.ERROR, "p2p_replication"):
        await a.start()
        await b.start()
        await linked(a, b)
        await a.create(title="goes on")
        await until(lambda: b.count(title="goes on"), "the good pool replicates")
        await asyncio.sleep(2.2)
    errors = await a.errors()
    assert any("'nobody'" in text and "ACCOUNTS" in text for text in errors)
    assert any("'carrier pigeon'" in text and "CONNECTION_HANDLERS" in text for text in errors)
    assert len([r for r in caplog.records if "nobody" in r.getMessage()]) == 1, "once, not every second"


async def test_a_pool_that_cannot_run_is_not_tried_at_each_commit(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    a = live("a")
    await a.do(Pool.objects.create, topic="no account", account="nobody")
    await a.do(lambda: Declaration.objects.create(pool=Pool.objects.get(topic="no account"), model="testapp.Note"))
    looks: list[float] = []
    monkeypatch.setattr(supervisor, "wanted_pools", lambda d: looks.append(time.monotonic()) or setups.wanted_pools(d))
    await a.start()
    await until(lambda: looks, "it is looked at")
    began = time.monotonic()
    for i in range(60):
        await a.create(title=str(i))
    await asyncio.sleep(0.5)
    # Once a second.
    assert len([look for look in looks if look > began]) <= time.monotonic() - began + 2


@pytest.mark.parametrize(("interval", "timeout"), [(3.5, 8.0), (3.5, 2.0), (0.0, 8.0), (60.0, 8.0)])
async def test_a_link_at_rest_is_heard_of_before_it_is_given_up(
    live: Live, settings: Any, interval: float, timeout: float
) -> None:
    settings.P2P_REPLICATION = {
        **settings.P2P_REPLICATION, "HEARTBEAT_INTERVAL": interval, "PEER_TIMEOUT": timeout,
    }  # fmt: skip
    a = live("a")
    await a.start()
    assert a.supervisor is not None
    ((pool,), failed) = await a.do(setups.wanted_pools, a.supervisor.database)
    assert not failed
    assert 0 < pool.setup.heartbeat <= timeout / 2


async def test_the_query_log_does_not_grow_with_debug(live: Live, settings: Any) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    settings.DEBUG = True
    await linked(a, b)
    for i in range(5):
        await a.create(title=f"n{i}")
    await until(lambda: b.count(title="n4"), "the rows arrive")
    await asyncio.sleep(1.1)
    for replica in (a, b):
        assert replica.supervisor is not None
        logged = await replica.supervisor.thread.run(lambda: [len(c.queries_log) for c in connections.all(True)])
        assert logged == [0]


async def test_a_stopped_worker_leaves_no_thread_task_or_lease(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    await a.stop()
    await b.stop()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("p2p-")]
    assert not [t.get_name() for t in asyncio.all_tasks() if t.get_name().startswith("p2p")]
    for replica in (a, b):
        pool = await replica.do(Pool.objects.get)
        assert (pool.lease_holder, pool.lease_until, pool.signaling_state) == ("", None, "")
        assert not any(peer.is_connected for peer in (await replica.peers()).values())


async def test_stopping_while_a_pool_is_being_restarted_gives_its_lease_back(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start()
    await linked(a, b)
    assert a.supervisor is not None
    await a.do(lambda: handle().restart())
    a.supervisor.ring()
    while a.supervisor.running:  # noqa: ASYNC110 - it must be caught in the middle
        await asyncio.sleep(0)
    await a.stop()
    assert (await a.do(Pool.objects.get)).lease_holder == ""
