"""The conflict log: a value that lost to one whose writer did not know of it is kept, and can be written back."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest
from django.utils import timezone

from p2p_replication.exceptions import CannotRestore
from p2p_replication.models import Conflict, ConflictKind
from tests.storage.conftest import StorageReplica, meet
from tests.testapp.models import Book, Coin, Note, Sample, Shelf

NOTE = ("testapp.Note",)
COIN = ("testapp.Coin",)


def edit(replica: StorageReplica, **values: Any) -> None:
    Note.objects.using(replica.alias).update(**values)
    replica.post()
    time.sleep(0.002)  # The next write is later, whatever the marks.


def conflicts(replica: StorageReplica) -> list[Conflict]:
    return list(Conflict.objects.using(replica.alias))


def both_have_a_note(a: StorageReplica, b: StorageReplica) -> Note:
    note = Note.objects.using("a").create(title="first", body="text")
    meet(a, b, labels=NOTE)
    return note


def test_the_value_that_lost_is_kept_with_whose_it_was_and_against_what(replica):
    a, b = replica("a"), replica("b")
    note = both_have_a_note(a, b)
    edit(a, title="from a")
    edit(b, title="from b")
    meet(a, b, labels=NOTE)
    assert {Note.objects.using(alias).get().title for alias in "ab"} == {"from b"}
    (conflict,) = conflicts(a)
    assert (conflict.model, conflict.kind, conflict.fields) == (*NOTE, ConflictKind.OVERWRITTEN, ["title"])
    assert conflict.key == a.site.key(note.pk)
    assert (conflict.lost_values, conflict.won_values) == ({"title": "from a"}, {"title": "from b"})
    # The other one was never met: no pool has written a Peer row here.
    assert (conflict.lost_by, conflict.won_by) == (a.database.replica_id, b.database.replica_id[:4])
    assert conflict.lost_clock < conflict.won_clock
    assert "title overwritten" in str(conflict)
    assert conflicts(b) == []  # It has never had the value.


def test_who_holds_neither_value_when_they_meet_has_nothing_to_tell(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    both_have_a_note(a, b)
    c.pull(a, NOTE)
    edit(a, title="from a")
    edit(b, title="from b")
    c.pull(b, NOTE)
    a.pull(c, NOTE)
    assert [len(conflicts(one)) for one in (a, b, c)] == [1, 0, 0]
    edit(b, title="b again")
    edit(a, title="a again")
    c.pull(b, NOTE)
    c.pull(a, NOTE)  # Here the two meet.
    assert [(edits.lost_values, edits.won_values) for edits in conflicts(c)] == [
        ({"title": "b again"}, {"title": "a again"})
    ]


def test_edits_of_different_fields_and_edits_in_turn_are_no_conflict(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    both_have_a_note(a, b)
    edit(a, title="from a")
    edit(b, body="from b")
    meet(a, b, labels=NOTE)
    for i in range(3):
        edit(a, title=f"a {i}")
        b.pull(a, NOTE)
        edit(b, title=f"b {i}")
        a.pull(b, NOTE)
    meet(a, b, c, labels=NOTE)
    b.start()  # A restart is no other writer.
    edit(b, title="again")
    c.pull(b, NOTE)
    edit(c, title="c")
    meet(a, b, c, labels=NOTE)
    assert {Note.objects.using(alias).get().title for alias in "abc"} == {"c"}
    assert [conflicts(one) for one in (a, b, c)] == [[], [], []]


def test_the_same_value_at_two_places_is_no_conflict(replica):
    a, b = replica("a"), replica("b")
    both_have_a_note(a, b)
    moment = timezone.now()
    edit(a, title="same", updated_at=moment)
    edit(b, title="same", updated_at=moment)
    meet(a, b, labels=NOTE)
    assert conflicts(a) == conflicts(b) == []


def test_a_version_that_comes_again_is_told_once(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    both_have_a_note(a, b)
    c.pull(a, NOTE)
    edit(a, title="from a")
    late = b.push(a, NOTE[0], 0)
    c.pull(a, NOTE)
    edit(b, title="from b")
    b.pull(a, NOTE)
    b.pull(c, NOTE)
    c.pull(b, NOTE)
    a.pull(b, NOTE)
    assert late is not None
    b.apply(a, late)
    b.apply(a, late)
    assert [len(conflicts(one)) for one in (a, b, c)] == [1, 1, 1]


def test_two_inserts_of_one_key_keep_what_lost(replica):
    a, b = replica("a"), replica("b")
    for one, name, rate in ((a, "from a", 1), (b, "from b", 1)):
        Coin.objects.using(one.alias).create(code="x", name=name, rate=rate)
        one.post()
        time.sleep(0.002)
    meet(a, b, labels=COIN)
    (conflict,) = conflicts(a)
    assert conflict.lost_values == {"name": "from a"}


def test_an_edit_that_was_lost_with_its_row_comes_back_with_it(replica):
    a, b = replica("a"), replica("b")
    note = both_have_a_note(a, b)
    edit(a, title="edited")
    Note.objects.using("b").all().delete()
    b.post()
    meet(a, b, labels=NOTE)
    assert not Note.objects.using("a").exists() and not Note.objects.using("b").exists()
    (conflict,) = conflicts(a)
    assert (conflict.kind, conflict.fields, conflict.won_values) == (ConflictKind.DELETED, ["title"], {})
    assert (conflict.lost_values, conflict.lost_row["body"]) == ({"title": "edited"}, "text")
    conflict.restore()
    assert conflicts(a)[0].restored_at is not None
    assert not Conflict.objects.using("a").open().exists()
    meet(a, b, labels=NOTE)
    for alias in "ab":
        back = Note.objects.using(alias).get()
        assert (back.pk, back.title, back.body) == (note.pk, "edited", "text")
    assert a.raw(NOTE[0]) == b.raw(NOTE[0])
    assert [len(conflicts(one)) for one in (a, b)] == [1, 0]


def test_a_delete_that_knew_of_everything_loses_nothing(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    both_have_a_note(a, b)
    edit(a, title="edited")
    c.pull(a, NOTE)
    b.pull(a, NOTE)
    edit(b, body="edited, too")
    Note.objects.using("b").all().delete()
    b.post()
    meet(a, b, c, labels=NOTE)
    assert [conflicts(one) for one in (a, b, c)] == [[], [], []]


def test_an_edit_of_an_earlier_life_is_no_conflict_with_the_next_one(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    Coin.objects.using("a").create(code="x", name="first")
    meet(a, b, c, labels=COIN)
    Coin.objects.using("a").update(name="edited")
    b.pull(a, COIN)
    Coin.objects.using("b").all().delete()
    b.post()
    Coin.objects.using("b").create(code="x", name="second")
    meet(a, b, c, labels=COIN)
    assert [conflicts(one) for one in (a, b, c)] == [[], [], []]


def test_restoring_writes_a_new_change_that_replicates(replica):
    a, b = replica("a"), replica("b")
    both_have_a_note(a, b)
    edit(a, title="from a")
    edit(b, title="from b")
    meet(a, b, labels=NOTE)
    conflicts(a)[0].restore()
    meet(a, b, labels=NOTE)
    assert {Note.objects.using(alias).get().title for alias in "ab"} == {"from a"}
    # The one who restores knew of both: no conflict anew.
    assert [len(conflicts(one)) for one in (a, b)] == [1, 0]


def test_every_kind_of_value_comes_back_as_it_was(replica):
    a, b = replica("a"), replica("b")
    now = timezone.now()
    values = {
        "text": "ä", "whole": -(2**63), "flag": False, "real": 0.1, "day": now.date(), "moment": now,
        "clock": datetime.time(1, 2, 3), "span": datetime.timedelta(days=3), "blob": b"\0\xff",
        "data": {"a": [1, None]},
    }  # fmt: skip
    sample = Sample.objects.using("a").create()
    meet(a, b, labels=("testapp.Sample",))
    Sample.objects.using("a").update(**values)
    a.post()
    kept = a.raw("testapp.Sample")
    time.sleep(0.002)
    Sample.objects.using("b").update(**dict.fromkeys(values, None), amount=1)
    Sample.objects.using("b").update(text="other", whole=1, flag=True, real=2.0, blob=b"", data=[])
    meet(a, b, labels=("testapp.Sample",))
    for conflict in conflicts(a):
        conflict.restore()
    meet(a, b, labels=("testapp.Sample",))
    Sample.objects.using("b").update(amount=None)
    meet(a, b, labels=("testapp.Sample",))
    assert a.raw("testapp.Sample") == b.raw("testapp.Sample") == kept
    assert Sample.objects.using("a").get().pk == sample.pk


def test_what_cannot_be_restored_says_why(replica):
    a, b = replica("a"), replica("b")
    both_have_a_note(a, b)
    edit(a, title="from a")
    edit(b, title="from b")
    meet(a, b, labels=NOTE)
    Note.objects.using("a").all().delete()
    with pytest.raises(CannotRestore, match="deleted, or is parked"):
        conflicts(a)[0].restore()
    assert conflicts(a)[0].restored_at is None


def test_a_value_that_the_database_refuses_is_not_restored(replica):
    a, b = replica("a"), replica("b")
    labels = ("testapp.Shelf", "testapp.Book")
    shelf = Shelf.objects.using("a").create(name="shelf")
    Book.objects.using("a").create(title="book", shelf=shelf)
    meet(a, b, labels=labels)
    Shelf.objects.using("a").update(name="edited")
    Book.objects.using("a").update(title="edited")
    Book.objects.using("b").all().delete()
    b.post()
    meet(a, b, labels=labels)
    lost = Conflict.objects.using("a").get(model="testapp.Book", kind=ConflictKind.DELETED)
    Shelf.objects.using("a").all().delete()
    with pytest.raises(CannotRestore, match="refuses the values"):
        lost.restore()
    assert lost.restored_at is None
    assert Conflict.objects.using("a").open().filter(pk=lost.pk).exists()


def test_conflicts_are_kept_for_so_many_days(replica):
    a, b = replica("a"), replica("b")
    both_have_a_note(a, b)
    edit(a, title="from a")
    edit(b, title="from b")
    meet(a, b, labels=NOTE)
    found = Conflict.objects.using("a")
    found.prune(1)
    assert found.count() == 1
    found.update(noticed_at=timezone.now() - datetime.timedelta(days=2))
    found.prune(1)
    assert found.count() == 0
