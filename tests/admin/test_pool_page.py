"""The page of a pool shows what is true, to those who may see it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from p2p_replication import sync_p2p
from p2p_replication.models import ChangeLogEntry, Gap, Peer, PeerProgress, PeerState, Pool, Stream
from tests.admin.conftest import SCRIPT, add_error, add_peer, beat, park
from tests.testapp.models import Note

pytestmark = pytest.mark.django_db
Visitor = Callable[..., Client]


def page(pool: Pool, kind: str = "change") -> str:
    return reverse(f"admin:p2p_replication_pool_{kind}", args=[pool.pk])


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found.append(" ".join(data.split()))


def texts(client: Client, pool: Pool, kind: str = "live") -> list[str]:
    """The visible texts of the page (of its changing part), in order."""
    response = client.get(page(pool, kind))
    assert response.status_code == 200
    parser = _Texts()
    parser.feed(response.content.decode())
    return parser.found


def test_a_connected_peer_in_sync_is_shown_with_its_numbers(visitor: Visitor, pool: Pool) -> None:
    add_peer(pool, "cd" * 16, "Ben's laptop")
    found = texts(visitor(), pool)
    start = found.index("Ben's laptop")
    since = timezone.localtime(Peer.objects.get().connected_since).strftime("%Y-%m-%d %H:%M:%S")
    assert found[start : start + 9] == [
        "Ben's laptop", "ben", "connected", "in sync", since, "1,234", "56", "2.0 KB", "100 bytes",
    ]  # fmt: skip
    assert "1 connected" in found and "running" in found
    assert "host:1234" in found and "connected as ana" in found


def test_a_peers_last_error_is_shown(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    client = visitor()
    assert "Last error:" not in texts(client, pool)
    Peer.objects.update(last_error="it came with another key")
    found = texts(client, pool)
    assert found[found.index("Last error:") + 1] == "it came with another key"


def test_a_killed_worker_is_gone_when_its_lease_ends(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    """The rows it wrote still say "connected"; nobody renews its lease."""
    client = visitor()
    assert "in sync" in texts(client, pool)
    beat(pool, left=-0.001)
    found = texts(client, pool)
    assert "no worker" in found and "0 connected" in found and "gone" in found
    assert not {"connected", "in sync", "running", "connected as ana", "host:1234"} & set(found)
    assert any(text.startswith("gone; its lease ended") for text in found)


def test_the_lease_and_the_refresh_show_a_killed_worker_as_gone_within_15_seconds() -> None:
    from p2p_replication.admin.pool import REFRESH
    from p2p_replication.conf import AppSettings

    assert AppSettings().LEASE_TTL + REFRESH / 1000 < 15


@pytest.mark.parametrize(
    ("peer_fields", "progress", "shown"),
    [
        ({"rows_behind": 1204, "in_sync": False}, {}, "1,204 rows behind"),
        ({"rows_behind": 1, "in_sync": False}, {}, "1 row behind"),
        ({"in_sync": False}, {}, "catching up"),
        ({}, {"acknowledged": 40}, "has not confirmed our last changes"),
        ({}, None, "catching up"),
        ({}, {}, "in sync"),
    ],
)
def test_in_sync_is_said_only_when_both_sides_have_everything(
    visitor: Visitor, pool: Pool, peer: Peer, peer_fields: dict, progress: dict | None, shown: str
) -> None:
    Peer.objects.update(**peer_fields)
    if progress is None:
        PeerProgress.objects.filter(declaration__model="testapp.Book").delete()
    elif progress:
        PeerProgress.objects.filter(declaration__model="testapp.Note").update(**progress)
    found = texts(visitor(), pool)
    assert shown in found
    assert shown == "in sync" or "in sync" not in found


@pytest.mark.parametrize("state", [PeerState.GONE, PeerState.CONNECTING, PeerState.REFUSED])
def test_a_peer_that_is_not_connected_is_never_in_sync(
    visitor: Visitor, pool: Pool, peer: Peer, state: PeerState
) -> None:
    Peer.objects.update(state=state, last_seen=datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC))
    found = texts(visitor(), pool)
    assert state.label in found and "0 connected" in found
    assert "in sync" not in found and "connected" not in found
    assert any(text.startswith("last seen 20") for text in found)


def test_a_filter_is_shown(visitor: Visitor, pool: Pool) -> None:
    sync_p2p(Note, pool.topic, where={"title__startswith": "<b>"})
    assert "where title__startswith='<b>'" in texts(visitor(), pool)


def test_connected_peers_come_first(visitor: Visitor, pool: Pool) -> None:
    add_peer(pool, "01" * 16, "a, gone", state=PeerState.GONE)
    add_peer(pool, "02" * 16, "b, here")
    found = texts(visitor(), pool)
    assert found.index("b, here") < found.index("a, gone")


def test_names_that_peers_chose_are_escaped(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    Peer.objects.update(user=SCRIPT, last_error=SCRIPT)
    Pool.objects.update(signaling_state=SCRIPT, lease_holder=SCRIPT, topic=SCRIPT)
    add_error(pool, SCRIPT, replica_id=peer.replica_id)
    client = visitor()
    urls = [page(pool), page(pool, "live"), reverse("admin:p2p_replication_pool_changelist")]
    urls += [reverse(f"admin:p2p_replication_{name}_changelist") for name in ("peer", "poolerror")]
    for url in urls:
        content = client.get(url).content.decode()
        assert "alert(&#x27;peer&#x27;)" in content
        assert "<script>alert" not in content


def test_declared_models_with_what_waits_and_what_is_parked(visitor: Visitor, pool: Pool) -> None:
    Note.objects.create(title="one"), Note.objects.create(title="two")
    park("testapp.Book", "k1"), park("testapp.Book", "k2"), park("testapp.Book", "k3")
    found = texts(visitor(), pool)
    start = found.index("testapp.Book")
    assert found[start : start + 5] == ["testapp.Book", "app.p2p.BookReplication", "0", "3", "on"]
    start = found.index("testapp.Note")
    assert found[start : start + 5] == ["testapp.Note", "sync_p2p()", "2", "0", "on"]


def test_one_direction_and_refused_rows_are_shown(visitor: Visitor, pool: Pool) -> None:
    last = {"key": SCRIPT, "peer": "cd" * 16, "at": "2026-11-27T01:02:03+00:00"}
    pool.declarations.filter(model="testapp.Note").update(push=None, refused_in=3, last_refused_in=last)
    found = texts(visitor(), pool)
    assert found[found.index("testapp.Note") + 1] == "(pull only)"
    assert f"pull.modifier has refused 3 rows, the last one {SCRIPT} of cdcdcdcd, 2026-11-27 01:02 UTC" in found


def test_where_nothing_is_given_nothing_has_to_be_confirmed(visitor: Visitor, pool: Pool) -> None:
    add_peer(pool, "cd" * 16, "Ben's laptop")
    PeerProgress.objects.update(acknowledged=0)
    assert "has not confirmed our last changes" in texts(visitor(), pool)
    PeerProgress.objects.update(gives=False)
    assert "has not confirmed our last changes" not in texts(visitor(), pool)


def test_counting_what_waits_is_bounded(visitor: Visitor, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2p_replication.admin.pool_page.WAITING", 3)
    stream = Stream.objects.get(label="testapp.Note")
    for key in "abcdef":
        ChangeLogEntry.objects.create(stream=stream.pk, layout=1, key=key, operation=1, wall=1)
    assert "4+" in texts(visitor(), pool)


def test_a_gap_in_capture_is_shown(visitor: Visitor, pool: Pool) -> None:
    Gap.objects.create(stream=Stream.objects.get(label="testapp.Note"), reason="a test")
    found = texts(visitor(), pool)
    assert found.count("interrupted") == 1 and found.count("on") == 1


def test_recent_errors_with_their_count(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    Peer.objects.update(name="Ben's laptop")
    for i in range(12):
        add_error(pool, f"error {i}", count=i + 1, replica_id=peer.replica_id if i == 11 else "")
    found = texts(visitor(), pool)
    assert [text for text in found if text.startswith("error ")] == [f"error {i}" for i in range(11, 1, -1)]
    start = found.index("error 11")
    assert found[start - 2 : start] == ["12", "Ben's laptop"]
    assert "All 12 errors" in found


def test_a_cancelled_pool_says_so_and_has_no_buttons(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    pool.cancel()
    found = texts(visitor(), pool, "change")
    assert "cancelled" in found and "No model is declared." in found
    assert "in sync" not in found
    assert "Restart" not in found and "Cancel replication" not in found


def test_a_pool_nobody_serves_yet_names_the_command(visitor: Visitor, db: None) -> None:
    pool = Pool.objects.create(topic="field-team")
    found = texts(visitor(), pool)
    assert "manage.py runp2psync" in found and "No peer has been met yet." in found and "None." in found


def test_pages_work_under_a_strict_content_security_policy(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    """No inline script or style, no event attribute; what the script needs is in data attributes."""
    add_error(pool, "an error")
    for kind in ("change", "live"):
        content = visitor().get(page(pool, kind)).content.decode()
        assert not re.search(r"<script(?![^>]*\ssrc=)[^>]*>", content)
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", content)
    content = visitor().get(page(pool)).content.decode()
    assert f'data-p2p-live="{page(pool, "live")}"' in content and 'data-p2p-period="2000"' in content


def test_the_changing_part_is_the_same_in_the_page_and_by_itself(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    client = visitor()
    whole = client.get(page(pool)).content.decode()
    part = client.get(page(pool, "live")).content.decode()
    assert part.strip() in whole
    names = re.findall(r'data-p2p-block="(\w+)"', part)
    assert names == ["state", "peers", "models", "errors"]


def test_the_changing_part_is_not_cached_and_cheap(
    visitor: Visitor, pool: Pool, django_assert_max_num_queries: Callable
) -> None:
    client = visitor()
    for i in range(20):
        add_peer(pool, f"{i:032x}", f"peer {i}")
    with django_assert_max_num_queries(14):
        response = client.get(page(pool, "live"))
    assert "no-store" in response["Cache-Control"]


def test_looking_at_a_pool_writes_nothing(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client = visitor()
    with CaptureQueriesContext(connection) as queries:
        client.get(page(pool)), client.get(page(pool, "live"))
    assert not [q["sql"] for q in queries.captured_queries if not q["sql"].startswith(("SELECT", "WITH"))]


@pytest.mark.parametrize("kind", ["change", "live"])
def test_who_may_see_it(visitor: Visitor, pool: Pool, kind: str) -> None:
    assert visitor("view_pool").get(page(pool, kind)).status_code == 200
    assert visitor("view_devicetoken").get(page(pool, kind)).status_code == 403
    signed_out = Client().get(page(pool, kind))
    assert signed_out.status_code == 302 and "/login/" in signed_out["Location"]


@pytest.mark.parametrize("kind", ["change", "live"])
@pytest.mark.parametrize("key", ["999999", "nonsense"])
def test_a_pool_that_is_not_there(visitor: Visitor, kind: str, key: str) -> None:
    url = reverse(f"admin:p2p_replication_pool_{kind}", args=[key])
    assert visitor().get(url).status_code == 404


def test_the_list_counts_what_is_connected_only_under_a_live_worker(visitor: Visitor, pool: Pool, peer: Peer) -> None:
    add_peer(pool, "ee" * 16, "second")
    add_peer(pool, "ff" * 16, "third", state=PeerState.GONE)
    add_error(pool, "an error")
    url = reverse("admin:p2p_replication_pool_changelist")
    client = visitor()
    content = client.get(url).content.decode()
    assert 'class="field-connected_peers">2<' in content and 'class="field-model_count">2<' in content
    assert 'class="field-error_count">1<' in content
    beat(pool, left=-1)
    assert 'class="field-connected_peers">0<' in client.get(url).content.decode()
