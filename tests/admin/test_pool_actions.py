"""Cancelling, restarting and deleting pools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from p2p_replication.models import Declaration, Peer, Pool, PoolError
from tests.admin.conftest import add_error, beat

pytestmark = pytest.mark.django_db
Visitor = Callable[..., Client]
LIST = "admin:p2p_replication_pool_changelist"


def url(pool: Pool, kind: str) -> str:
    return reverse(f"admin:p2p_replication_pool_{kind}", args=[pool.pk])


def said(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def act(client: Client, action: str, *pools: Pool, **data: Any) -> Any:
    chosen = {"action": action, "_selected_action": [pool.pk for pool in pools], **data}
    return client.post(reverse(LIST), chosen)


def test_cancel_asks_first_and_changes_nothing_until_confirmed(visitor: Visitor, pool: Pool) -> None:
    client = visitor()
    response = client.post(url(pool, "cancel"))
    assert response.status_code == 200 and "Yes, cancel replication" in response.content.decode()
    pool.refresh_from_db()
    assert pool.cancelled_at is None and pool.declarations.count() == 2

    response = client.post(url(pool, "cancel"), {"confirmed": "yes"})
    assert response.status_code == 302 and response["Location"] == url(pool, "change")
    pool.refresh_from_db()
    assert pool.cancelled_at is not None and not pool.declarations.exists()
    assert LogEntry.objects.get().get_change_message() == "Cancelled."


def test_cancelling_a_pool_of_the_code_says_that_it_comes_back(visitor: Visitor, pool: Pool) -> None:
    response = visitor().post(url(pool, "cancel"), {"confirmed": "yes"})
    assert said(response) == [
        "field-team is cancelled; the rows stay where they are.",
        "app.p2p.BookReplication declares it: it comes back with the worker's next start.",
    ]


def test_cancelling_twice_is_said(visitor: Visitor, pool: Pool) -> None:
    pool.cancel()
    first = Pool.objects.get().cancelled_at
    response = visitor().post(url(pool, "cancel"), {"confirmed": "yes"})
    assert said(response) == ["field-team was cancelled already."]
    assert Pool.objects.get().cancelled_at == first


def test_restart_raises_the_generation_that_the_worker_watches(visitor: Visitor, pool: Pool) -> None:
    response = visitor().post(url(pool, "restart"))
    assert response.status_code == 302
    assert said(response) == ["field-team is restarted."]
    assert Pool.objects.get().generation == 1
    beat(pool, left=-1)
    assert said(visitor().post(url(pool, "restart"))) == ["field-team restarts as soon as a worker runs."]
    assert Pool.objects.get().generation == 2


def test_restart_of_a_cancelled_pool_says_what_to_do(visitor: Visitor, pool: Pool) -> None:
    pool.cancel()
    assert said(visitor().post(url(pool, "restart"))) == ["field-team is cancelled: declare it again with sync_p2p()."]
    assert Pool.objects.get().generation == 0


@pytest.mark.parametrize("kind", ["cancel", "restart"])
def test_buttons_work_by_post_only(visitor: Visitor, pool: Pool, kind: str) -> None:
    assert visitor().get(url(pool, kind)).status_code == 405
    assert visitor(enforce_csrf=True).post(url(pool, kind), {"confirmed": "yes"}).status_code == 403
    pool.refresh_from_db()
    assert pool.cancelled_at is None and pool.generation == 0


@pytest.mark.parametrize("kind", ["cancel", "restart"])
def test_buttons_need_the_change_permission(visitor: Visitor, pool: Pool, kind: str) -> None:
    viewer = visitor("view_pool")
    assert viewer.post(url(pool, kind), {"confirmed": "yes"}).status_code == 403
    assert Client().post(url(pool, kind), {"confirmed": "yes"}).status_code == 302
    pool.refresh_from_db()
    assert pool.cancelled_at is None and pool.generation == 0
    content = viewer.get(url(pool, "change")).content.decode()
    assert "Cancel replication" not in content and "Restart" not in content
    allowed = visitor("change_pool").get(url(pool, "change")).content.decode()
    assert "Cancel replication" in allowed and "Restart" in allowed


def test_list_actions_ask_confirm_and_act(visitor: Visitor, pool: Pool) -> None:
    other = Pool.objects.create(topic="second-team")
    client = visitor()
    response = act(client, "cancel_selected", pool, other)
    content = response.content.decode()
    assert "field-team" in content and "second-team" in content
    assert not Pool.objects.exclude(cancelled_at=None).exists()
    assert act(client, "restart_selected", pool, other).status_code == 302
    assert set(Pool.objects.values_list("generation", flat=True)) == {1}
    assert act(client, "cancel_selected", pool, other, confirmed="yes").status_code == 302
    assert not Pool.objects.filter(cancelled_at=None).exists()


@pytest.mark.parametrize("action", ["cancel_selected", "restart_selected"])
def test_list_actions_need_the_change_permission(visitor: Visitor, pool: Pool, action: str) -> None:
    act(visitor("view_pool"), action, pool, confirmed="yes")
    pool.refresh_from_db()
    assert pool.cancelled_at is None and pool.generation == 0


def test_nothing_is_added_or_edited_by_hand(visitor: Visitor, pool: Pool) -> None:
    client = visitor()
    assert client.get(reverse("admin:p2p_replication_pool_add")).status_code == 403
    assert client.post(url(pool, "change"), {"topic": "other-topic"}).status_code == 405
    assert Pool.objects.get().topic == "field-team"


def test_a_pool_with_live_data_can_not_be_deleted(visitor: Visitor, pool: Pool) -> None:
    client = visitor()
    assert client.post(url(pool, "delete"), {"post": "yes"}).status_code == 403
    assert "Delete" not in client.get(url(pool, "change")).content.decode()
    response = act(client, "delete_selected", pool, post="yes")
    assert "field-team: cancel it first" in response.content.decode()
    assert Pool.objects.exists()


def test_a_cancelled_pool_can_be_deleted_when_the_worker_has_left_it(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    add_error(pool, "an error")
    pool.cancel()
    # By the permission for pools alone: what hangs on them goes along.
    client = visitor("view_pool", "delete_pool")
    assert client.post(url(pool, "delete"), {"post": "yes"}).status_code == 403
    beat(pool, left=-1)
    assert "Delete" in client.get(url(pool, "change")).content.decode()
    assert client.post(url(pool, "delete"), {"post": "yes"}).status_code == 302
    for model in (Pool, Peer, PoolError, Declaration):
        assert not model._default_manager.exists()


def test_deleting_several_spares_those_with_live_data(visitor: Visitor, pool: Pool) -> None:
    over = Pool.objects.create(topic="over-and-out")
    over.cancel()
    act(visitor(), "delete_selected", pool, over, post="yes")
    assert Pool.objects.count() == 2
    act(visitor(), "delete_selected", over, post="yes")
    assert list(Pool.objects.all()) == [pool]
