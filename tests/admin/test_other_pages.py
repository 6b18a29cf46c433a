"""Device tokens, parked rows, peers and errors in the admin."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from p2p_replication.models import DeviceToken, Peer, Pool, Replica
from p2p_replication.signaling.tokens import create_token, find_token
from tests.admin.conftest import SCRIPT, add_error, beat, lose, park
from tests.testapp.models import Note

pytestmark = pytest.mark.django_db
Visitor = Callable[..., Client]


def listing(name: str) -> str:
    return reverse(f"admin:p2p_replication_{name}_changelist")


def test_no_page_shows_this_replicas_secret() -> None:
    assert Replica not in admin.site._registry
    shown = {model._meta.model_name for model in admin.site._registry if model._meta.app_label == "p2p_replication"}
    assert shown == {"pool", "peer", "poolerror", "parking", "conflict", "devicetoken"}


def test_every_page_of_ours_opens(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    error, parked = add_error(pool, "an error"), park("testapp.Note", "k1")
    token, _ = create_token(User.objects.create(username="ana"), "laptop")
    client = visitor()
    for row in (pool, peer, error, parked, lose("testapp.Note", "k1"), token):
        name = row._meta.model_name
        assert client.get(listing(name)).status_code == 200
        assert client.get(reverse(f"admin:p2p_replication_{name}_change", args=[row.pk])).status_code == 200
        assert client.get(reverse(f"admin:p2p_replication_{name}_history", args=[row.pk])).status_code == 200
    assert client.get(reverse("admin:app_list", args=["p2p_replication"])).status_code == 200
    assert str(apps.get_app_config("p2p_replication").verbose_name) in client.get("/admin/").content.decode()


# -- device tokens -----------------------------------------------------------------------------------------------------


def test_the_secret_is_shown_once_and_works(visitor: Visitor) -> None:
    ana = User.objects.create(username="ana")
    client = visitor()
    response = client.post(reverse("admin:p2p_replication_devicetoken_add"), {"user": ana.pk, "name": "Ana's <laptop>"})
    assert response.status_code == 200
    secret = re.search(r"p2p_[\w-]{43}", response.content.decode()).group()
    token = DeviceToken.objects.get()
    assert find_token(secret) == token and token.user == ana and token.name == "Ana's <laptop>"
    assert "no-store" in response["Cache-Control"]
    assert "<laptop>" not in response.content.decode()
    for kept in (str(response.cookies), str(dict(client.session))):
        assert secret not in kept
    for url in (listing("devicetoken"), reverse("admin:p2p_replication_devicetoken_change", args=[token.pk])):
        content = client.get(url).content.decode()
        assert secret not in content and token.digest not in content


def test_a_token_for_a_deactivated_user_is_refused(visitor: Visitor) -> None:
    gone = User.objects.create(username="gone", is_active=False)
    response = visitor().post(reverse("admin:p2p_replication_devicetoken_add"), {"user": gone.pk, "name": "x"})
    assert "would let nobody in" in response.content.decode()
    assert not DeviceToken.objects.exists()


def test_a_token_is_not_edited(visitor: Visitor) -> None:
    token, secret = create_token(User.objects.create(username="ana"), "laptop")
    url = reverse("admin:p2p_replication_devicetoken_change", args=[token.pk])
    visitor().post(url, {"user": User.objects.create(username="eve").pk, "name": "other", "digest": "0" * 64})
    assert find_token(secret) == token
    token.refresh_from_db()
    assert (token.user.username, token.name) == ("ana", "laptop")


def test_revoke_needs_the_change_permission_and_ends_the_token(visitor: Visitor) -> None:
    token, secret = create_token(User.objects.create(username="ana"), "laptop")
    revoke = {"action": "revoke_selected", "_selected_action": [token.pk]}
    visitor("view_devicetoken").post(listing("devicetoken"), revoke)
    assert find_token(secret) == token
    visitor("view_devicetoken", "change_devicetoken").post(listing("devicetoken"), revoke)
    assert find_token(secret) is None
    token.refresh_from_db()
    first = token.revoked_at
    visitor().post(listing("devicetoken"), revoke)
    token.refresh_from_db()
    assert token.revoked_at == first


# -- parked rows, peers, errors ----------------------------------------------------------------------------------------


def test_parked_rows_are_listed_with_their_model_and_reason(visitor: Visitor) -> None:
    park("testapp.Note", "key-of-note", detail="<b>detail</b>")
    park("testapp.Book", "key-of-book", reason="clock ahead")
    client = visitor()
    content = client.get(listing("parking")).content.decode()
    for text in ("testapp.Note", "key-of-note", "missing parent", "testapp.Book", "clock ahead"):
        assert text in content
    assert "<b>detail</b>" not in content
    only = client.get(listing("parking") + "?model=testapp.Book").content.decode()
    assert "key-of-book" in only and "key-of-note" not in only


@pytest.mark.parametrize("name", ["parking", "poolerror"])
def test_what_replication_writes_is_read_only(visitor: Visitor, pool: Pool, name: str) -> None:
    row = park("testapp.Note", "k1") if name == "parking" else add_error(pool, "an error")
    client = visitor()
    assert client.get(reverse(f"admin:p2p_replication_{name}_add")).status_code == 403
    for kind in ("change", "delete"):
        url = reverse(f"admin:p2p_replication_{name}_{kind}", args=[row.pk])
        assert client.post(url, {"post": "yes", "reason": "x", "text": "x"}).status_code == 403
    assert type(row)._default_manager.filter(pk=row.pk).exists()


def test_a_peer_is_connected_only_under_a_live_worker(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    client = visitor()
    assert '<span class="p2p-pill p2p-good">connected</span>' in client.get(listing("peer")).content.decode()
    beat(pool, left=-1)
    assert '<span class="p2p-pill p2p-off">gone</span>' in client.get(listing("peer")).content.decode()


def test_a_peer_whose_key_was_renewed_can_be_deleted_and_not_edited(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    client = visitor()
    change = reverse("admin:p2p_replication_peer_change", args=[peer.pk])
    assert client.post(change, {"public_key": "0" * 64}).status_code == 403
    assert client.post(reverse("admin:p2p_replication_peer_delete", args=[peer.pk]), {"post": "yes"}).status_code == 302
    assert not Peer.objects.exists()


# -- conflicts ---------------------------------------------------------------------------------------------------------


def test_what_lost_is_shown_with_whose_it_was(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    lose("testapp.Note", "k1", title=SCRIPT)
    page = visitor("view_conflict").get(listing("conflict")).content.decode()
    assert "title = &lt;script&gt;" in page and "<script>alert" not in page
    assert "(abababab)" in page
    assert "restore_selected" not in page
    assert "k1" not in visitor("view_conflict").get(listing("conflict"), {"model": "testapp.Book"}).content.decode()


@pytest.mark.parametrize("permission", ["view_conflict", "change_conflict"])
def test_restoring_needs_the_permission_to_change_conflicts(visitor: Visitor, pool: Pool, permission: str) -> None:
    note = Note.objects.create(title="won")
    conflict = lose("testapp.Note", note.pk.hex, title="lost")
    client = visitor(*{"view_conflict", permission})
    client.post(listing("conflict"), {"action": "restore_selected", ACTION_CHECKBOX_NAME: [conflict.pk]})
    note.refresh_from_db()
    assert note.title == ("lost" if permission == "change_conflict" else "won")
    conflict.refresh_from_db()
    assert (conflict.restored_at is not None) == (permission == "change_conflict")


def test_what_cannot_be_restored_is_told(visitor: Visitor, pool: Pool) -> None:
    conflict = lose("testapp.Note", "0" * 32, title="lost")
    chosen = {"action": "restore_selected", ACTION_CHECKBOX_NAME: [conflict.pk]}
    page = visitor().post(listing("conflict"), chosen, follow=True).content.decode()
    assert "was deleted, or is parked" in page
