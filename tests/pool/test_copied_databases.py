"""A database and its living copy meet: one of the two takes a new identity, and both go on as replicas."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from p2p_replication.conf import app_settings
from p2p_replication.models import Peer, Pool
from p2p_replication.models import Replica as ReplicaRow
from p2p_replication.storage import replica_database
from p2p_replication.transport import identity
from p2p_replication.transport.base import RemotePeer
from p2p_replication.transport.memory import MemoryHub
from p2p_replication.transport.memory_connection import Wire, connection_pair
from tests.databases import SQLiteFile
from tests.live_replicas import LiveReplica, equal, linked, until
from tests.testapp.models import Note

Live = Callable[..., LiveReplica]


LEASE_TTL = 2.0
COPY_GRACE = LEASE_TTL / 3 + 2.5


@pytest.fixture
def hub(hub: MemoryHub, settings: Any) -> MemoryHub:
    settings.P2P_REPLICATION = {**settings.P2P_REPLICATION, "LEASE_TTL": LEASE_TTL}
    return hub


async def live_copy(live: Live, original: LiveReplica, name: str, path: Path) -> LiveReplica:
    """Copy the database of a running replica and give the copy a worker."""
    with closing(sqlite3.connect(original.path)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    copied = live(name, SQLiteFile(path))
    # The lease came along; it would run out by itself.
    await copied.do(lambda: Pool.objects.update(lease_holder="", lease_until=None))
    return copied


@pytest.fixture(params=["the original's start is greater", "the copy's start is greater"])
def starts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fix the order of the first two starts."""
    real, fixed = replica_database.new_start, iter("f0" if "original" in request.param else "0f")
    monkeypatch.setattr(replica_database, "new_start", lambda: next(fixed, "") + real()[1:])


async def test_a_live_copy_met_by_its_original_becomes_a_replica_of_its_own(
    live: Live, tmp_path: Path, starts: None
) -> None:
    a = live("a")
    await a.create(title="before the copy")
    await a.start()
    old_id = a.replica_id
    b = await live_copy(live, a, "b", tmp_path / "copied.sqlite3")
    await a.create(title="of a, not met yet")
    await b.create(title="of b, not met yet")
    await b.start(declared=False)
    await until(lambda: a.replica_id != b.replica_id, "one of the two has taken a new identity")
    await linked(a, b)
    await a.create(title="of a")
    await b.create(title="of b")
    await equal(a, b)
    assert await a.count() == 5
    ids = [a.replica_id, b.replica_id]
    assert ids.count(old_id) == 1, "the other one keeps its identity"
    keys = [await replica.do(lambda: bytes(ReplicaRow.objects.get().secret_key)) for replica in (a, b)]
    assert keys[0] != keys[1], "a new id has a new key"
    await asyncio.sleep(COPY_GRACE + 0.5)
    assert [a.replica_id, b.replica_id] == ids, "once is enough"
    for replica in (a, b):
        errors = await replica.errors()
        assert len(errors) == 1 and "one database is a copy of the other" in errors[0], errors


async def test_a_peer_that_knows_both_as_one_ends_with_two(live: Live, tmp_path: Path, starts: None) -> None:
    """It has met both under one id and read from both; it misses nothing of either."""
    a, c = live("a"), live("c")
    await a.start()
    await c.start()
    await a.do(Note.objects.bulk_create, [Note(title=f"n{i}") for i in range(50)])
    await linked(a, c)
    await equal(a, c)
    old_id = a.replica_id
    b = await live_copy(live, a, "b", tmp_path / "copied.sqlite3")
    await b.start(declared=False)
    for i in range(10):
        await a.create(title=f"a{i}")
        await b.create(title=f"b{i}")
    await until(lambda: a.replica_id != b.replica_id, "one of the two has taken a new identity")
    await linked(a, b, c)
    await equal(a, b, c)
    assert await c.count() == 70
    assert {a.replica_id, b.replica_id} == set(await c.peers())
    assert old_id in await c.peers()
    await c.create(title="at last")
    await equal(a, b, c)


async def test_a_copy_of_a_copy_all_alive(live: Live, tmp_path: Path) -> None:
    a = live("a")
    await a.create(title="first")
    await a.start()
    b = await live_copy(live, a, "b", tmp_path / "b.sqlite3")
    c = await live_copy(live, b, "c", tmp_path / "c.sqlite3")
    await b.create(title="of b")
    await b.start(declared=False)
    await c.create(title="of c")
    await c.start(declared=False)
    replicas = (a, b, c)
    await until(lambda: len({one.replica_id for one in replicas}) == 3, "there are three identities", 40)
    await linked(*replicas)
    await equal(*replicas)
    assert await a.count() == 3


async def meet_by_hand(a: LiveReplica, b: LiveReplica) -> None:
    one, other = RemotePeer("again-a", name="a"), RemotePeer("again-b", name="b")
    of_a, of_b = connection_pair(one, other, Wire(lambda: 0.0), lambda: None)
    await a.pool._connected(of_a)
    await b.pool._connected(of_b)


async def test_who_only_claims_our_id_changes_nothing(live: Live, tmp_path: Path) -> None:
    """With another key it is refused, as ever; our identity stays."""
    a = live("a")
    await a.start()
    await a.stop()
    await a.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    b = live("b", SQLiteFile(Path(shutil.copy(a.path, tmp_path / "b.sqlite3"))))
    await b.do(ReplicaRow.objects.update, secret_key=identity.generate_secret_key())
    await a.start()
    await b.start()
    await meet_by_hand(a, b)
    before = a.replica_id

    async def told() -> bool:
        return any("the same id, with different keys" in text for text in await a.errors())

    await until(told, "it is refused")
    await asyncio.sleep(COPY_GRACE + 0.5)
    assert a.replica_id == b.replica_id == before
    assert not a.links and not b.links


async def test_a_worker_that_slept_past_its_lease_is_no_copy(live: Live) -> None:
    """Two workers of one database are in the pool for a moment: nobody takes a new identity."""
    first = live("a")
    await first.start()
    before = first.replica_id
    second = live("a2", first.site)
    await second.start(declared=False)
    # As if the first one had slept: it is still in the pool when its successor comes.
    assert second.supervisor is not None
    holder, until_when = second.supervisor.holder, timezone.now() + timedelta(seconds=app_settings.LEASE_TTL)
    await first.do(lambda: Pool.objects.update(lease_holder=holder, lease_until=until_when))
    second.supervisor.ring()
    await until(lambda: bool(second.supervisor and second.supervisor.running), "the second one has the pool")
    await asyncio.sleep(COPY_GRACE + 1.5)
    assert first.replica_id == second.replica_id == before
    assert await first.do(lambda: ReplicaRow.objects.get().replica_id) == before
    assert await first.errors() == []
    assert not await first.do(Peer.objects.exists)


async def test_a_fixture_gives_rows_and_no_identity(live: Live) -> None:
    """``dumpdata`` writes the key as nothing: a database that was filled from it has to make one."""
    a = live("a")
    await a.do(lambda: ReplicaRow.objects.create(replica_id="f" * 32, secret_key=b"", sequence=7))
    await a.start()
    assert a.replica_id != "f" * 32
    row = await a.do(ReplicaRow.objects.get)
    assert (len(bytes(row.secret_key)), row.sequence >= 7) == (32, True)


async def test_a_deleted_identity_is_made_anew_and_numbers_go_on(live: Live) -> None:
    """Peers that have read so far must not take the next rows for some that they have."""
    a, b = live("a"), live("b")
    for i in range(5):
        await a.create(title=f"n{i}")
    await a.start()
    await b.start()
    await equal(a, b)
    await a.stop()
    (sequence,) = await a.sql("SELECT sequence FROM p2p_replication_replica")
    await a.do(ReplicaRow.objects.all().delete)
    await a.start()
    row: Any = await a.do(ReplicaRow.objects.get)
    assert row.sequence >= sequence[0]
    await linked(a, b)
    await a.create(title="on it goes")
    await equal(a, b)


async def test_a_database_file_replaced_under_its_worker_is_opened(live: Live, tmp_path: Path) -> None:
    """A backup moved to the place of the database: the worker must not go on with the file that nobody sees."""
    a, b = live("a"), live("b")
    await a.create(title="kept")
    await a.start()
    await b.start()
    await equal(a, b)
    saved = tmp_path / "backup.sqlite3"
    with closing(sqlite3.connect(a.path)) as source, closing(sqlite3.connect(saved)) as target:
        source.backup(target)
    await a.create(title="lost, but b has it")
    await equal(a, b)
    before = a.replica_id
    await a.do(connections.close_all)
    saved.replace(a.path)
    for suffix in ("-wal", "-shm"):
        a.path.with_name(a.path.name + suffix).unlink(missing_ok=True)
    await a.create(title="after the restore")
    await until(lambda: b.count(title="after the restore"), "the worker has opened the new file")
    await equal(a, b)
    assert await a.count() == 3
    assert a.replica_id == before
