"""The handle on a model's part in a pool: cancel, restart, peers, errors, and waiting."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from p2p_replication import sync_p2p
from p2p_replication.exceptions import ConfigurationError, NotInSync, P2PError, WorkerNotRunning
from p2p_replication.models import (
    ChangeLogEntry,
    Declaration,
    Peer,
    PeerProgress,
    PeerState,
    Pool,
    PoolError,
    PoolHandle,
    Stream,
)
from tests.testapp.models import Book, Note

TOPIC = "field-team"


def serve(handle: PoolHandle, seconds: float = 15) -> None:
    """A worker takes the pool's lease."""
    until = timezone.now() + datetime.timedelta(seconds=seconds)
    Pool.objects.filter(pk=handle.pool.pk).update(lease_holder="worker", lease_until=until)


def meet(handle: PoolHandle, name: str, *, acknowledged: int = 0, complete: bool = True, **fields: Any) -> Peer:
    """A peer connects."""
    peer = Peer.objects.create(pool=handle.pool, replica_id=name, name=name, state=PeerState.CONNECTED, **fields)
    PeerProgress.objects.create(
        peer=peer, declaration=handle.declaration, acknowledged=acknowledged, complete=complete,
        rows_behind=fields.get("rows_behind", 0),
    )  # fmt: skip
    return peer


def post_all() -> None:
    """What the worker does with the log."""
    ChangeLogEntry.objects.all().delete()
    Stream.objects.filter(label="testapp.Note").update(own_vector={"aa": 3, "bb": 7})


# -- the parts that only read and write rows -----------------------------------------------------------------------


@pytest.mark.django_db
def test_cancel_ends_one_models_part_and_the_pool_with_the_last() -> None:
    note, book = sync_p2p(Note, TOPIC), sync_p2p(Book, TOPIC)
    kept = Note.objects.create(title="stays")
    note.cancel()
    assert Pool.objects.get().cancelled_at is None
    assert [d.model for d in Declaration.objects.all()] == ["testapp.Book"]
    book.cancel()
    assert Pool.objects.get().cancelled_at is not None
    assert not Pool.objects.active().exists()
    assert Note.objects.get() == kept
    # Again is harmless.
    book.cancel()


@pytest.mark.django_db
def test_a_pool_cancels_all_its_models_at_once() -> None:
    sync_p2p(Note, TOPIC), sync_p2p(Book, TOPIC)
    other = sync_p2p(Note, "other-team")
    pool = Pool.objects.get(topic=TOPIC)
    pool.cancel()
    pool.refresh_from_db()
    first = pool.cancelled_at
    assert first is not None and not pool.declarations.exists()
    assert list(Pool.objects.active()) == [other.pool]
    pool.cancel()
    pool.refresh_from_db()
    assert pool.cancelled_at == first
    # Declaring one model again does not bring the others back.
    sync_p2p(Note, TOPIC)
    assert [d.model for d in pool.declarations.all()] == ["testapp.Note"]


@pytest.mark.django_db
def test_restart_raises_the_generation() -> None:
    handle = sync_p2p(Note, TOPIC)
    handle.restart()
    handle.pool.restart()
    assert Pool.objects.get().generation == 2


@pytest.mark.django_db
def test_peers_are_connected_only_while_the_lease_is_fresh() -> None:
    """The handle was made before the worker took the lease: what it says must still be true."""
    handle = sync_p2p(Note, TOPIC)
    serve(handle)
    meet(handle, "ben")
    assert [peer.is_connected for peer in handle.peers] == [True]
    assert handle.peers.connected().count() == 1
    serve(handle, seconds=-1)
    assert [peer.is_connected for peer in handle.peers] == [False]
    assert handle.peers.connected().count() == 0


@pytest.mark.django_db
def test_errors_newest_first() -> None:
    handle = sync_p2p(Note, TOPIC)
    for i in range(3):
        error = PoolError.objects.create(pool=handle.pool, text=f"error {i}")
        PoolError.objects.filter(pk=error.pk).update(at=timezone.now() + datetime.timedelta(seconds=i))
    assert [str(error) for error in handle.errors] == ["error 2", "error 1", "error 0"]


@pytest.mark.django_db
def test_old_errors_go() -> None:
    handle = sync_p2p(Note, TOPIC)
    for days in (1, 13, 15):
        error = PoolError.objects.create(pool=handle.pool, text=f"{days} days old")
        PoolError.objects.filter(pk=error.pk).update(at=timezone.now() - datetime.timedelta(days=days))
    PoolError.prune(14)
    assert {error.text for error in handle.errors} == {"1 days old", "13 days old"}


@pytest.mark.django_db
def test_deleting_a_pool_takes_only_its_own_rows() -> None:
    handle = sync_p2p(Note, TOPIC)
    meet(handle, "ben")
    Note.objects.create(title="stays")
    handle.pool.delete()
    assert not Peer.objects.exists() and not PeerProgress.objects.exists()
    assert Note.objects.count() == 1


# -- wait_in_sync ----------------------------------------------------------------------------------------------------


@pytest.fixture
def handle(transactional_db: None) -> PoolHandle:
    # The flush after another test may have left deletions in the log.
    ChangeLogEntry.objects.all().delete()
    return sync_p2p(Note, TOPIC)


def test_waiting_inside_a_transaction_raises_at_once(handle: PoolHandle) -> None:
    serve(handle)
    with (
        transaction.atomic(),
        pytest.raises(ConfigurationError, match="inside an open transaction would wait for ever"),
    ):
        handle.wait_in_sync(60)


def test_waiting_without_a_worker_names_the_command(handle: PoolHandle) -> None:
    with pytest.raises(WorkerNotRunning, match=r"No worker serves the pool field-team\. .*python manage.py runp2psync"):
        handle.wait_in_sync(60)
    serve(handle, seconds=-1)
    with pytest.raises(WorkerNotRunning):
        handle.wait_in_sync(60)


def test_waiting_for_a_cancelled_pool_raises(handle: PoolHandle) -> None:
    serve(handle)
    handle.cancel()
    with pytest.raises(ConfigurationError, match="The pool field-team is cancelled"):
        handle.wait_in_sync(60)


def test_what_is_missing_is_said_step_by_step(handle: PoolHandle) -> None:
    serve(handle)
    Note.objects.create(title="one")
    with pytest.raises(NotInSync, match=r"Not in sync after 0 s: 1 local changes are not posted yet\."):
        handle.wait_in_sync(0)
    post_all()
    with pytest.raises(NotInSync, match=r"0 of 1 peers are connected\."):
        handle.wait_in_sync(0)
    peer = meet(handle, "ben", acknowledged=5, complete=False, rows_behind=4)
    with pytest.raises(NotInSync, match=r"ben has acknowledged 5 of 7\."):
        handle.wait_in_sync(0)
    PeerProgress.objects.update(acknowledged=7)
    with pytest.raises(NotInSync, match=r"4 rows of ben are not applied yet\."):
        handle.wait_in_sync(0)
    PeerProgress.objects.update(complete=True)
    handle.wait_in_sync(0)
    with pytest.raises(NotInSync, match=r"1 of 2 peers are connected\."):
        handle.wait_in_sync(0, peers=2)
    Peer.objects.filter(pk=peer.pk).update(state=PeerState.GONE)
    with pytest.raises(NotInSync, match=r"0 of 1 peers are connected\."):
        handle.wait_in_sync(0)


def test_the_error_is_a_timeout_error_too() -> None:
    assert issubclass(NotInSync, TimeoutError) and issubclass(NotInSync, P2PError)


def test_one_peer_in_sync_is_enough(handle: PoolHandle) -> None:
    serve(handle)
    post_all()
    meet(handle, "behind", acknowledged=0)
    meet(handle, "ben", acknowledged=7)
    handle.wait_in_sync(0)
    with pytest.raises(NotInSync, match="behind has acknowledged 0 of 7"):
        handle.wait_in_sync(0, peers=2)


def test_changes_after_the_call_are_not_waited_for(handle: PoolHandle) -> None:
    from p2p_replication.models.handle import _Barrier

    serve(handle)
    post_all()
    meet(handle, "ben", acknowledged=7)
    barrier = _Barrier(handle)
    Note.objects.create(title="later")
    assert barrier.missing(1) is None


async def test_the_async_twin_waits_and_refuses_alike(handle: PoolHandle) -> None:
    from asgiref.sync import sync_to_async

    with pytest.raises(WorkerNotRunning):
        await handle.await_in_sync(60)
    await sync_to_async(serve)(handle)
    await sync_to_async(post_all)()
    with pytest.raises(NotInSync, match="0 of 1 peers"):
        await handle.await_in_sync(0)
    await sync_to_async(meet)(handle, "ben", acknowledged=7)
    await handle.await_in_sync(0)


def test_waiting_is_possible_only_with_committed_changes(handle: PoolHandle) -> None:
    """Outside a transaction nothing is open, whatever was before."""
    assert not connection.in_atomic_block
    with transaction.atomic():
        Note.objects.create(title="one")
    serve(handle)
    with pytest.raises(NotInSync, match="1 local changes"):
        handle.wait_in_sync(0)


# -- the doorbell ------------------------------------------------------------------------------------------------------


class ShoutingLayer:
    """Stands for a channel layer that can't be reached."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    async def send(self, channel: str, message: Any) -> None:
        self.sent.append((channel, message))
        raise ConnectionError("no Redis")


def test_the_doorbell_rings_after_the_commit_and_a_dead_layer_disturbs_nobody(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = ShoutingLayer()
    monkeypatch.setattr("channels.layers.get_channel_layer", lambda: layer)
    with transaction.atomic():
        sync_p2p(Note, TOPIC)
        assert layer.sent == []
    assert layer.sent == [("p2p-sync", {"type": "pools.changed"})]
    Pool.objects.get().cancel()
    assert len(layer.sent) == 2


@override_settings(CHANNEL_LAYERS={})
def test_without_a_channel_layer_there_is_no_doorbell(transactional_db: None) -> None:
    sync_p2p(Note, TOPIC)
    assert Pool.objects.exists()
