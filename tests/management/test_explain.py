"""``manage.py p2p explain``: why a row is here, or is not, and who has it."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest

from p2p_replication.models import PoolError
from p2p_replication.transport.memory import MemoryHub
from tests.live_replicas import TOPIC, LiveReplica, equal, linked, until
from tests.management.commands import on, run, run_json
from tests.replicas import TestReplica
from tests.testapp.models import Coin, Note

Live = Callable[..., LiveReplica]


async def pair(live: Live) -> tuple[LiveReplica, LiveReplica, Note]:
    a, b = live("a"), live("b")
    note = await a.create(title="t")
    await a.start()
    await b.start()
    await linked(a, b)
    await equal(a, b)
    return a, b, note


async def shown_of(replica: LiveReplica, note: Note, has: bool | None) -> None:
    async def known() -> bool:
        history, _ = await on(replica, "explain", "testapp.Note", str(note.pk))
        return [peer["has"] for peer in history["peers"]] == [has]

    await until(known, f"{replica.name} knows that its peer {'has' if has else 'lacks'} the row")


async def test_a_row_that_both_have(live: Live) -> None:
    a, b, note = await pair(live)
    await shown_of(a, note, True)
    await shown_of(b, note, True)
    history, error = await on(b, "explain", "testapp.note", note.pk.hex)
    assert error == ""
    assert history["in_table"] and history["pools"] == [TOPIC]
    assert history["version"]["state"] == "alive"
    (dot,) = history["version"]["dots"]
    assert dot["replica"] == a.replica_id
    printed, _ = await a.do(run, "explain", "testapp.Note", str(note.pk))
    assert "it is there" in printed and "this replica" in printed and "has it" in printed
    assert str(datetime.datetime.now(datetime.UTC).year) in printed
    assert max(map(len, printed.splitlines())) <= 100


async def test_a_live_change_is_shown_as_had_by_both_sides(live: Live) -> None:
    a, b, note = await pair(live)
    await b.do(Note.objects.filter(pk=note.pk).update, stars=3)
    await equal(a, b)
    await shown_of(a, note, True)
    await shown_of(b, note, True)
    history, _ = await on(a, "explain", "testapp.Note", str(note.pk))
    clocks = history["version"]["fields"]
    assert clocks["stars"] > clocks["title"]


async def test_a_relayed_row_is_known_to_be_had(live: Live, hub: MemoryHub) -> None:
    a, b, c = live("a"), live("b"), live("c")
    await c.start()
    c_id = c.replica_id
    await c.stop()
    await a.start()
    await b.start()
    hub.partition([a.replica_id], [c_id])
    await c.start()
    await until(lambda: len(b.links) == 2, "b is linked with both")
    note = await a.create(title="from a")
    await until(lambda: c.count(title="from a"), "it reaches c through b")
    await shown_of(c, note, True)
    history, _ = await on(c, "explain", "testapp.Note", str(note.pk))
    assert "not met directly" in history["version"]["dots"][0]["described"]


async def test_a_peer_that_is_away_lacks_what_was_written_meanwhile(live: Live) -> None:
    a, b, note = await pair(live)
    await shown_of(a, note, True)
    await b.stop()
    new = await a.create(title="new")
    await shown_of(a, new, False)

    async def shown_away() -> bool:
        history, _ = await on(a, "explain", "testapp.Note", str(new.pk))
        return history["peers"][0]["why"].startswith("not connected, last seen 20")

    await until(shown_away, "b is shown as not connected")
    await shown_of(a, note, True)
    await a.stop()
    history, _ = await on(a, "explain", "testapp.Note", str(new.pk))
    assert "manage.py runp2psync" in history["peers"][0]["why"]


async def test_a_deleted_row(live: Live) -> None:
    a, b, note = await pair(live)
    await a.do(Note.objects.filter(pk=note.pk).delete)
    await equal(a, b)
    history, error = await on(b, "explain", "testapp.Note", str(note.pk))
    assert not history["in_table"] and error == ""
    version = history["version"]
    assert version["state"] == "deleted" and version["deleted"] > version["inserted"]
    printed, _ = await b.do(run, "explain", "testapp.Note", str(note.pk))
    assert "it is not there" in printed and "deleted   20" in printed


async def test_a_parked_row_says_why(live: Live) -> None:
    a, b = live("a"), live("b")
    shelf = await a.create("testapp.Shelf", name="s")
    book = await a.create("testapp.Book", title="t", shelf=shelf)
    await a.start("testapp.Book")
    await b.start("testapp.Book")
    await until(b.parked, "the book is parked")
    history, _ = await on(b, "explain", "testapp.Book", str(book.pk))
    assert (history["version"]["state"], history["in_table"]) == ("parked", False)
    assert history["parked"]["reason"] == "missing parent"
    printed, _ = await b.do(run, "explain", "testapp.Book", str(book.pk))
    assert "missing parent: testapp.Shelf" in printed and "remedy" in printed
    printed, error = await b.do(run, "explain", "testapp.Shelf", str(shelf.pk))
    assert "knows no row" in error


@pytest.mark.django_db
def test_a_key_that_nobody_has_ends_with_1() -> None:
    history, error = run_json("explain", "testapp.Note", "01902b00-0000-7000-8000-000000000000")
    assert error.startswith("This replica knows no row 01902b00000070008000000000000000 of testapp.Note")
    assert history["pools"] == [] and history["version"] is None
    assert run("explain", "testapp.Note", "nonsense")[1] == (
        "'nonsense' is no key of testapp.Note, whose keys are uuid."
    )


@pytest.mark.django_db
def test_a_write_that_is_not_posted_yet_is_waiting() -> None:
    note = Note.objects.create(title="t")
    Note.objects.filter(pk=note.pk).update(stars=1)
    history, error = run_json("explain", "testapp.Note", str(note.pk).upper())
    assert error == ""
    assert [what for what, _ in history["waiting"]] == ["insert", "update"]
    printed, _ = run("explain", "testapp.Note", str(note.pk))
    assert "which the worker has not posted yet" in printed
    assert "declared in no pool" in printed


def test_text_keys_are_typed_as_they_are(replica: Callable[..., TestReplica]) -> None:
    a = replica("a")
    Coin.objects.using("a").create(code="eur / 1", name="Euro")
    a.post()
    history, _ = run_json("explain", "testapp.Coin", "eur / 1", "--database", "a")
    assert history["version"]["state"] == "alive"
    assert history["version"]["dots"][0]["described"].startswith("this replica")


def test_writes_past_the_triggers_are_told_as_such(replica: Callable[..., TestReplica]) -> None:
    a = replica("a")
    Coin.objects.using("a").create(code="lost")
    Coin.objects.using("a").create(code="changed", rate=1)
    a.post()
    assert run_json("explain", "testapp.Coin", "changed", "--database", "a")[0]["changed_unseen"] == []
    a.sql("INSERT INTO p2p_replication_applying (id) VALUES (1)")
    a.sql("DELETE FROM testapp_coin WHERE code = 'lost'")
    a.sql("UPDATE testapp_coin SET rate = 2")
    a.sql("INSERT INTO testapp_coin (code, name, rate) VALUES ('smuggled', '', 0)")
    a.sql("DELETE FROM p2p_replication_applying")
    told = {
        "lost": "went away past the triggers",
        "smuggled": "was written past the triggers",
        "changed": "changed past the triggers: rate.",
    }
    for key, text in told.items():
        printed, error = run("explain", "testapp.Coin", key, "--database", "a")
        assert text in " ".join(printed.split()) and "rescan" in printed
        assert error == ""


@pytest.mark.django_db
def test_errors_that_name_the_model_are_shown() -> None:
    note = Note.objects.create(title="t")
    pool = Note.objects.sync_p2p(TOPIC).pool
    text = f"testapp.Note: the row with the key b'{note.pk.hex}' has 9000000 bytes"
    PoolError.objects.create(pool=pool, text=text)
    PoolError.objects.create(pool=pool, text="something else")
    history, _ = run_json("explain", "testapp.Note", str(note.pk))
    assert [error.endswith(text) for error in history["errors"]] == [True]
