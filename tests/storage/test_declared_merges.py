"""Fields with a declared merge: what several places write at once is joined, whoever writes and how."""

from __future__ import annotations

import dataclasses
import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p_replication.merges import Counter, FieldMerge, Max
from p2p_replication.models import Conflict, Stream
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.registry import registry
from p2p_replication.storage.capture.installation import install, remove
from tests.storage.batches import batch_of, edited, with_values
from tests.storage.conftest import StorageReplica, meet
from tests.testapp.models import Note, Tally

TALLY = ("testapp.Tally",)
EARLY, LATE = (datetime.datetime(2026, 1, day, tzinfo=datetime.UTC) for day in (1, 2))


def write(replica: StorageReplica, **values: Any) -> None:
    Tally.objects.using(replica.alias).update(**values)
    replica.post()


def equal(*replicas: StorageReplica) -> Tally:
    """Let everybody meet everybody; return the one row that all have."""
    meet(*replicas, labels=TALLY)
    first = replicas[0]
    for replica in replicas:
        assert replica.canonical(*TALLY) == first.canonical(*TALLY)
        assert replica.parked() == 0
        assert not install(replica.alias, TALLY, because="test")[TALLY[0]].total
        assert not replica.post().entries
    return Tally.objects.using(first.alias).get()


@pytest.fixture
def pair(replica):
    a, b = replica("a"), replica("b")
    Tally.objects.using("a").create(
        visits=10, sum="1.50", best=5, first=LATE, price="9.00", tags=["x"], note="aa", scores={"a": 1}
    )
    equal(a, b)
    return a, b


@pytest.mark.on("sqlite", "postgresql")
def test_every_kind_joins_what_two_places_write(pair):
    a, b = pair
    write(a, visits=F("visits") + 2, sum=F("sum") + 1, best=7, first=EARLY, price="10.00", tags=["x", 2, "y"])
    write(a, note="bbb", scores={"a": 3, "b": 1})
    write(b, visits=F("visits") - 5, sum=F("sum") - 3, best=6, first=LATE, price="8.00", tags=["z", 1.5])
    write(b, note="cc", scores={"a": 2, "c": 1})
    row = equal(a, b)
    assert (row.visits, row.sum, row.best, row.first) == (7, Decimal("-0.50"), 7, EARLY)
    assert (row.price, row.tags, row.note) == (Decimal("10.00"), ["x", "y", "z", 1.5, 2], "bbb")
    assert row.scores == {"a": 3, "b": 1, "c": 1}
    assert not Conflict.objects.using("a").exists() and not Conflict.objects.using("b").exists()


@pytest.mark.on("sqlite", "postgresql")
def test_raw_sql_and_rows_that_are_saved_whole_count_as_well(pair):
    a, b = pair
    a.outside("UPDATE testapp_tally SET visits = visits + 1")
    row = Tally.objects.using("b").get()
    row.visits += 4
    row.save()
    assert equal(a, b).visits == 15
    row.visits += 1  # It is stale, and says 15.
    row.save()
    assert equal(a, b).visits == 15  # 15 was there already.


def test_a_value_that_does_not_win_is_put_right_in_the_table(pair):
    a, b = pair
    write(a, best=9)
    write(a, best=2, tags=[], visits=F("visits") + 1)
    row = Tally.objects.using("a").get()
    assert (row.best, row.tags, row.visits) == (9, ["x"], 11)
    assert equal(a, b).best == 9


def test_other_fields_stay_with_the_later_write(pair):
    a, b = pair
    write(a, title="from a", visits=F("visits") + 1)
    write(b, title="from b", visits=F("visits") + 1)
    assert equal(a, b).visits == 12
    assert Conflict.objects.using("a").get().fields == ["title"]


def test_increments_come_once_however_often_and_by_which_way_they_arrive(replica, pair):
    a, b = pair
    c = replica("c")
    c.pull(a, TALLY)
    for one in (a, b, c):
        write(one, visits=F("visits") + 1)
    late = b.push(a, TALLY[0], 0)
    write(a, visits=F("visits") + 1)
    a.start()
    write(a, visits=F("visits") + 1)
    b.pull(a, TALLY)
    for _ in range(2):
        b.apply(a, late)
        c.apply(a, late)
    assert equal(a, b, c).visits == 15


def test_what_is_written_while_nobody_looks_counts(pair):
    a, b = pair
    remove("a")
    a.outside("UPDATE testapp_tally SET visits = visits + 3, best = 1")
    assert install("a")[TALLY[0]].changed == 1
    write(b, visits=F("visits") + 1)
    row = equal(a, b)
    assert (row.visits, row.best) == (14, 5)


def test_rows_that_were_there_before_are_counted_once(replica):
    a, b = replica("a"), replica("b")
    key = "0198a5d2-0000-7000-8000-000000000001"
    for one in (a, b):
        remove(one.alias)
        Tally.objects.using(one.alias).create(pk=key, visits=10, tags=["x", one.alias])
        install(one.alias)
        one.post()
    write(a, visits=F("visits") + 1)
    write(b, visits=F("visits") + 2)
    row = equal(a, b)
    assert (row.visits, row.tags) == (13, ["a", "b", "x"])


def test_a_new_life_begins_anew(pair):
    a, b = pair
    key = Tally.objects.using("a").get().pk
    write(b, visits=F("visits") + 5)
    Tally.objects.using("a").all().delete()
    a.post()
    Tally.objects.using("a").create(pk=key, visits=1, best=0)
    row = equal(a, b)
    assert (row.visits, row.best) == (1, 0)


def test_a_parked_row_takes_part(replica, pair):
    """A check constraint refuses b's row for a while: what is added here meanwhile counts."""
    a, b = pair
    b.outside("CREATE UNIQUE INDEX only_one ON testapp_tally (title)")
    other = Tally.objects.using("b").create(title="taken")
    write(a, title="taken", visits=F("visits") + 1)
    b.pull(a, TALLY)
    assert b.parked() == 1
    Tally.objects.using("b").filter(title="").update(visits=F("visits") + 2)
    b.post()
    a.pull(b, TALLY)
    assert Tally.objects.using("a").get(note="aa").visits == 13
    b.outside("DROP INDEX only_one")
    b.retry_parked()
    meet(a, b, labels=TALLY)
    assert Tally.objects.using("b").exclude(pk=other.pk).get().visits == 13
    assert a.canonical(*TALLY) == b.canonical(*TALLY)


def test_a_merge_that_is_declared_later_takes_over_what_is_there(replica, monkeypatch):
    a, b = replica("a"), replica("b")
    note = Note.objects.using("a").create(title="n", stars=3)
    meet(a, b, labels=("testapp.Note",))
    Note.objects.using("b").update(stars=4)
    meet(a, b, labels=("testapp.Note",))
    for one in (a, b):
        declare(monkeypatch, one, stars=Counter())
        Note.objects.using(one.alias).update(stars=F("stars") + 10)
        one.post()
    meet(a, b, labels=("testapp.Note",))
    assert {Note.objects.using(alias).get(pk=note.pk).stars for alias in "ab"} == {24}
    for one in (a, b):
        declare(monkeypatch, one, stars=Max())
        Note.objects.using(one.alias).update(stars=30 if one is a else 20)
        one.post()
    meet(a, b, labels=("testapp.Note",))
    assert {Note.objects.using(alias).get(pk=note.pk).stars for alias in "ab"} == {30}
    for one in (a, b):
        declare(monkeypatch, one)
    Note.objects.using("b").update(stars=1)
    meet(a, b, labels=("testapp.Note",))
    assert {Note.objects.using(alias).get(pk=note.pk).stars for alias in "ab"} == {1}


def declare(monkeypatch: pytest.MonkeyPatch, replica: StorageReplica, **merge: FieldMerge) -> None:
    """As a new version of the project's code would, with the start of its worker."""
    options = registry.get("testapp.Note")
    monkeypatch.setitem(registry._options, "testapp.Note", dataclasses.replace(options, merge=merge))
    replica.start()
    stream = Stream.objects.using(replica.alias).get(label="testapp.Note")
    assert stream.merges == {name: declared.name for name, declared in merge.items()}


def test_what_is_no_state_ends_the_connection_and_changes_nothing(pair):
    a, b = pair
    write(a, visits=F("visits") + 1)
    forged = edited(batch_of(a, TALLY[0]), lambda row: with_values(row, visits="7"))
    before = b.canonical(*TALLY)
    with pytest.raises(RemoteProtocolError, match="no state of the merge counter"):
        b.apply(a, forged)
    assert b.canonical(*TALLY) == before


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(("add", "best", "tag", "both", "pull", "pull", "restart", "push", "delete", "insert")),
        st.integers(0, 2),
        st.integers(-3, 3),
    ),
    max_size=14,
)


@pytest.mark.on("mixed")
def test_random_histories_add_up(replica):
    """Nobody deletes: then every increment of everybody is in the sum, and the best is the best."""
    replicas = [replica(name) for name in "abc"]

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(STEPS)
    def play(history):
        key = Tally.objects.using("a").create(visits=0, best=0, tags=[]).pk
        meet(*replicas, labels=TALLY, rounds=1)
        added, best, tags, is_deleted = 0, 0, set(), False
        for i, what, j, value in history:
            one, other = replicas[i], replicas[j]
            rows = Tally.objects.using(one.alias).filter(pk=key)
            if what == "pull" and i != j:
                one.pull(other, TALLY)
            elif what == "push" and i != j and (changes := one.push(other, TALLY[0], 0)) is not None:
                other.apply(one, changes)
            elif what == "restart":
                one.start()
            elif not rows.exists():
                if what == "insert":
                    Tally.objects.using(one.alias).create(pk=key, visits=1)
            elif what == "delete":
                rows.delete()
                is_deleted = True
            if what in ("add", "both") and rows.update(visits=F("visits") + value):
                added += value
            if what in ("best", "both") and rows.update(best=value):
                best = max(best, value)
            if what == "tag" and rows.update(tags=[value]):
                tags.add(value)
        meet(*replicas, labels=TALLY, rounds=3)
        assert len({str(one.canonical(*TALLY)) for one in replicas}) == 1
        assert not any(install(one.alias, because="test")[TALLY[0]].total for one in replicas)
        if not is_deleted:
            row = Tally.objects.using("a").get(pk=key)
            assert (row.visits, row.best, set(row.tags)) == (added, best, tags)

    play()
