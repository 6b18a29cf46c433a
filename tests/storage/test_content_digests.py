"""Digests read from a database: of every kind of value and state, from one snapshot, in the way of nobody."""

from __future__ import annotations

import datetime
import decimal
import threading
import uuid

import pytest
from django.db import connections

from p2p_replication.protocol.content_digest import BUCKETS, differing_buckets
from p2p_replication.protocol.verification import Outcome, compare, differences
from p2p_replication.storage import content_digests
from p2p_replication.storage.content_digests import Stopped, read_digest
from p2p_replication.storage.unlogged import unlogged
from tests.storage.conftest import meet
from tests.testapp.models import Book, Note, Sample, Shelf

VALUES = {
    "text": "ä\n",
    "whole": -(2**63),
    "flag": True,
    "real": -0.0,
    "amount": decimal.Decimal("12345.6789"),
    "day": datetime.date(1, 1, 1),
    "moment": datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.UTC),
    "clock": datetime.time(23, 59, 59, 999999),
    "span": datetime.timedelta(days=-1, microseconds=1),
    "blob": b"\x00\xff",
    "data": {"b": [1, None, "x"]},
    "ref": uuid.UUID(int=7),
}


def outcome(a, b, label):
    return compare(a.digest(label), b.digest(label)).outcome


@pytest.mark.on("sqlite", "postgresql", "mixed")
def test_every_kind_of_value_is_hashed_alike_on_both_sides(replica):
    a, b = replica("a"), replica("b")
    Sample.objects.using("a").bulk_create([Sample(**VALUES), Sample(), *(Sample(**{n: v}) for n, v in VALUES.items())])
    assert a.digest("testapp.Sample").unsettled == "14 local changes are not posted yet"
    meet(a, b)
    assert outcome(a, b, "testapp.Sample") is Outcome.EQUAL
    assert a.digest("testapp.Sample").unsettled == ""


def test_deleted_rows_count(replica):
    a, b = replica("a"), replica("b")
    note = Note.objects.using("a").create(title="n")
    meet(a, b)
    note.delete(using="a")
    meet(a, b)
    assert outcome(a, b, "testapp.Note") is Outcome.EQUAL
    c = replica("c")
    assert differing_buckets(a.digest("testapp.Note").sums, c.digest("testapp.Note").sums)


def test_a_parked_row_is_equal_to_the_one_it_waits_to_become(replica):
    a, b = replica("a"), replica("b")
    Book.objects.using("a").create(shelf=Shelf.objects.using("a").create(name="s"), title="t")
    b.pull(a, ("testapp.Book",))
    assert b.parked() == 1
    assert outcome(a, b, "testapp.Book") is Outcome.EQUAL


def test_a_row_that_the_table_has_lost_or_changed_past_the_triggers_differs(replica):
    a, b = replica("a"), replica("b")
    lost, changed, _ = Note.objects.using("a").bulk_create([Note(title=f"n{i}") for i in range(3)])
    meet(a, b)
    unseen(b, "DELETE FROM testapp_note WHERE id = %s", lost.pk.hex)
    unseen(b, "UPDATE testapp_note SET stars = 5 WHERE id = %s", changed.pk.hex)
    found = compare(a.digest("testapp.Note"), b.digest("testapp.Note"))
    assert found.outcome is Outcome.DIFFERENT
    named = differences(a.digest("testapp.Note", found.buckets), b.digest("testapp.Note", found.buckets))
    assert named is not None
    assert set(named.different) == {lost.pk.bytes, changed.pk.bytes}


def test_rows_past_the_triggers_that_no_version_knows_of_are_counted(replica):
    a, b = replica("a"), replica("b")
    unseen(b, "INSERT INTO testapp_shelf (id, name) VALUES (%s, 'x')", "0" * 32)
    assert b.digest("testapp.Shelf").untracked == 1
    assert outcome(a, b, "testapp.Shelf") is Outcome.DIFFERENT


def test_rows_that_the_vector_does_not_cover_are_on_their_way(replica):
    """Of a pull that broke off: another replica with the same vector need not have them."""
    a, b, c = replica("a"), replica("b"), replica("c")
    Note.objects.using("a").bulk_create([Note(title=f"n{i}") for i in range(9)])
    a.post()
    b.pull(a, ("testapp.Note",), batch_size=4, batches=1)
    assert b.vector("testapp.Note") == c.vector("testapp.Note") == {}
    assert b.digest("testapp.Note").unsettled.startswith("4 rows came from elsewhere")
    assert outcome(b, c, "testapp.Note") is Outcome.UNDER_WAY
    meet(a, b, c)
    assert outcome(b, c, "testapp.Note") is Outcome.EQUAL


def test_it_is_read_in_pages_from_one_snapshot_and_holds_nobody_up(replica, monkeypatch):
    monkeypatch.setattr(content_digests, "PAGE", 10)
    a, b = replica("a"), replica("b")
    notes = Note.objects.using("a").bulk_create([Note(title=f"n{i}") for i in range(95)])
    meet(a, b)
    before = b.digest("testapp.Note")
    pages = []

    class Reading(threading.Event):
        """Asked before each page: then somebody writes, and finds no lock."""

        def is_set(self):
            pages.append(1)
            a.outside(("UPDATE testapp_note SET title = 'other' WHERE id = %s", (notes[-len(pages)].pk.hex,)))
            return False

    note = a.declarations["testapp.Note"]
    assert read_digest(Reading(), a.database, "testapp.Note", note, ()) == before
    assert len(pages) == 11
    assert a.digest("testapp.Note").unsettled == "11 local changes are not posted yet"


def test_reading_stops_when_nobody_waits_any_more(replica):
    a = replica("a")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        read_digest(stop, a.database, "testapp.Note", a.declarations["testapp.Note"], ())
    assert not connections["a"].in_atomic_block
    Note.objects.using("a").create(title="no transaction was left open")
    assert a.digest("testapp.Note", range(0, BUCKETS, 200)).sums == b""


def unseen(replica, statement, *params):
    """Write as no trigger sees it: as the applier does."""
    with replica.database.writing(), unlogged(replica.database):
        replica.sql(statement, params)
