"""``local_writes()``: what every replica writes by itself is no edit, is not sent, and is not found later either."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p_replication import local_writes
from p2p_replication.storage.capture.installation import install
from tests.replicas import TestReplica
from tests.storage.conftest import meet
from tests.testapp.models import Book, Diary, Note, OddNames, Sample, Shelf

both = pytest.mark.on("sqlite", "postgresql")
KEY = uuid.UUID(int=9)


def notes(replica: TestReplica) -> Any:
    return Note.objects.using(replica.alias)


def shout(replica: TestReplica) -> None:
    """A data migration."""
    with local_writes(replica.alias):
        for note in notes(replica).exclude(title__startswith="!"):
            notes(replica).filter(pk=note.pk).update(title="!" + note.title)


def found_by_reconciliation(replica: TestReplica) -> dict[str, int]:
    found = install(replica.alias, because="a test")
    return {label: reconciled.total for label, reconciled in found.items() if reconciled.total}


def sent(*replicas: TestReplica) -> int:
    """Let the replicas meet; return how many rows had to cross."""
    before = sum(replica.sent_rows for replica in replicas)
    meet(*replicas)
    return sum(replica.sent_rows for replica in replicas) - before


@both
def test_updates_are_not_captured_sent_or_found(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    notes(a).bulk_create([Note(title=f"n{i}") for i in range(5)])
    meet(a, b)
    shout(a)
    assert a.log() == []
    assert found_by_reconciliation(a) == {}
    assert sent(a, b) == 0
    assert sorted(notes(b).values_list("title", flat=True)) == [f"n{i}" for i in range(5)]
    shout(b)
    assert a.canonical("testapp.Note") == b.canonical("testapp.Note")
    assert sent(a, b) == 0
    assert a.digest("testapp.Note").sums == b.digest("testapp.Note").sums


@both
def test_edits_before_and_after_are_sent_as_ever(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    note = notes(a).create(title="one")
    meet(a, b)
    notes(a).filter(pk=note.pk).update(stars=1)  # Waits in the log meanwhile.
    shout(a)
    shout(b)
    notes(a).filter(pk=note.pk).update(body="after")
    meet(a, b)
    for one in (a, b):
        found = notes(one).get()
        assert (found.title, found.stars, found.body) == ("!one", 1, "after")


@pytest.mark.on("sqlite", "postgresql")
def test_a_replica_that_migrates_late_ends_equal_and_reverts_nothing(replica: Any, vendor: str) -> None:
    a, late = replica("a"), replica("late")
    note = notes(a).create(title="long")
    meet(a, late)

    def shorten(one: TestReplica) -> None:
        with local_writes(one.alias):
            notes(one).update(title="l")  # Of equal clocks the greater value would win, which is the longer text.

    shorten(a)
    notes(late).filter(pk=note.pk).update(stars=2)
    meet(a, late)
    assert (notes(a).get().title, notes(a).get().stars) == ("l", 2)
    shorten(late)
    notes(late).filter(pk=note.pk).update(body="x")
    meet(a, late)
    assert a.canonical("testapp.Note") == late.canonical("testapp.Note")
    assert notes(late).get().title == "l"


@both
def test_an_edit_always_wins_over_a_local_write(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    note = notes(a).create(title="one")
    meet(a, b)
    shout(a)
    notes(b).filter(pk=note.pk).update(title="edited")
    meet(a, b)
    assert notes(a).get().title == "edited"


@both
def test_rows_inserted_alike_meet_and_rows_inserted_here_only_are_sent(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    for one in (a, b):
        with local_writes(one.alias):
            Shelf.objects.using(one.alias).create(pk=KEY, name="seed")
    with local_writes("a"):
        Shelf.objects.using("a").create(name="here only")
    Shelf.objects.using("b").filter(pk=KEY).update(name="edited")
    meet(a, b)
    for one in (a, b):
        assert set(Shelf.objects.using(one.alias).values_list("name", flat=True)) == {"edited", "here only"}
    assert a.entry(Shelf(pk=KEY)).inserted == 0, "as if it had been there before replication"
    assert found_by_reconciliation(a) == found_by_reconciliation(b) == {}


@both
def test_a_row_deleted_inside_is_deleted_everywhere_and_stays_so(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    note = notes(a).create(title="one")
    meet(a, b)
    notes(b).filter(pk=note.pk).update(stars=2)
    with local_writes("a"):
        notes(a).all().delete()
    meet(a, b)
    assert notes(a).count() == notes(b).count() == 0
    with local_writes("b"):
        notes(b).all().delete()
    assert sent(a, b) == 0


@both
def test_what_fails_inside_is_rolled_back_and_capture_goes_on(replica: Any, vendor: str) -> None:
    a = replica("a")
    note = notes(a).create(title="one")
    a.post()
    with pytest.raises(ZeroDivisionError), local_writes("a"):
        notes(a).update(title="lost")
        1 / 0  # noqa: B018
    with transaction.atomic("a"):
        with pytest.raises(ZeroDivisionError), local_writes("a"):
            notes(a).update(title="lost")
            1 / 0  # noqa: B018
        notes(a).filter(pk=note.pk).update(stars=1)
    assert (notes(a).get().title, len(a.log())) == ("one", 1)
    with local_writes("a"), local_writes("a"):
        notes(a).update(title="two")
    assert len(a.log()) == 1
    notes(a).update(stars=2)
    assert len(a.log()) == 2
    assert found_by_reconciliation(a) == {}


@both
def test_in_a_transaction_that_is_rolled_back_nothing_remains(replica: Any, vendor: str) -> None:
    a = replica("a")
    notes(a).create(title="one")
    a.post()
    before = a.entry(notes(a).get())
    with transaction.atomic("a"):
        shout(a)
        transaction.set_rollback(True, "a")
    after = a.entry(notes(a).get())
    assert (bytes(after.digest), after.clock, after.layout) == (bytes(before.digest), before.clock, before.layout)


@pytest.mark.on("postgresql")
def test_what_others_commit_meanwhile_is_captured(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    ours, theirs = notes(a).create(title="ours"), notes(a).create(title="theirs")
    notes(a).create(title="goes")
    meet(a, b)
    began, wrote = threading.Event(), threading.Event()

    def other() -> None:
        began.wait(10)
        a.outside(("UPDATE testapp_note SET stars = 7 WHERE id = %s", [theirs.pk]))
        a.outside("DELETE FROM testapp_note WHERE title = 'goes'")
        a.outside(("INSERT INTO testapp_note VALUES (%s, 'comes', '', 0, now())", [KEY]))
        wrote.set()

    thread = threading.Thread(target=other)
    thread.start()
    with local_writes("a"):
        began.set()
        assert wrote.wait(10), "others are not held up"
        notes(a).filter(pk=ours.pk).update(title="!ours")
    thread.join()
    meet(a, b)
    assert notes(b).get(pk=theirs.pk).stars == 7
    assert notes(b).get(pk=ours.pk).title == "ours"
    assert set(notes(b).values_list("title", flat=True)) == {"ours", "theirs", "comes"}
    assert a.entry(Note(pk=KEY)).inserted > 0, "an insert of today, not of long ago"


@both
def test_every_kind_of_value_and_name(replica: Any, vendor: str) -> None:
    a = replica("a")
    Sample.objects.using("a").create(real=0.1, amount="1.5", data={"a": 1}, blob=b"x", text="t")
    if vendor == "sqlite":  # Django itself can't write to such names on PostgreSQL.
        OddNames.objects.using("a").create(plain="x", order="y")
    Diary.objects.using("a").create(text="t")
    a.post()
    with local_writes("a"):
        Sample.objects.using("a").update(real=1e300, amount="2.25", data=[1], blob=b"\x00", text=None, ref=KEY)
        if vendor == "sqlite":
            OddNames.objects.using("a").update(plain="z", unique_one="q")
        Diary.objects.using("a").update(private="not replicated", text="u")
    assert a.log() == []
    assert found_by_reconciliation(a) == {}


@both
def test_a_difference_from_before_is_still_found(replica: Any, vendor: str) -> None:
    """Another field of the same row, written where no trigger saw it."""
    a = replica("a")
    note = notes(a).create(title="one")
    a.post()
    database = a.database
    with transaction.atomic("a"):
        database.vendor.begin_unlogged(connections["a"])
        notes(a).filter(pk=note.pk).update(stars=5)
        database.vendor.end_unlogged(connections["a"])
    shout(a)
    assert found_by_reconciliation(a) == {"testapp.Note": 1}
    a.post()
    assert "stars" in (a.entry(note).field_clocks or "")


@both
def test_children_and_parents(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    old, new = (Shelf.objects.using("a").create(name=name) for name in ("old", "new"))
    Book.objects.using("a").create(title="t", shelf=old)
    meet(a, b)
    for one in (a, b):
        with local_writes(one.alias):
            Book.objects.using(one.alias).update(shelf=new.pk)
            Shelf.objects.using(one.alias).filter(pk=old.pk).delete()
    meet(a, b)
    assert a.rows() == b.rows()
    assert Book.objects.using("b").get().shelf_id == new.pk


STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["edit title", "edit stars", "delete", "create", "migrate", "meet"]),
        st.integers(0, 2),
    ),
    max_size=10,
)


@pytest.mark.on("sqlite")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_in_any_order_replicas_that_all_migrate_and_then_edit_end_equal(replica: Any, vendor: str, steps: Any) -> None:
    """An idempotent migration, run once more at the end by both, as after an edit that came late."""
    made = {name: replica(f"{name}{uuid.uuid4().hex[:6]}") for name in "ab"}
    for name, step, number in steps:
        one = made[name]
        key = uuid.UUID(int=number + 1)
        rows = notes(one).filter(pk=key)
        match step:
            case "create" if not rows.exists():
                notes(one).create(pk=key, title=f"t{name}")
            case "edit title":
                rows.update(title=f"e{name}{number}")
            case "edit stars":
                rows.update(stars=number + 1 if name == "a" else -number - 1)
            case "delete":
                rows.delete()
            case "migrate":
                shout(one)
            case "meet":
                meet(*made.values(), labels=("testapp.Note",))
    meet(*made.values(), labels=("testapp.Note",))
    for one in made.values():
        shout(one)
    meet(*made.values(), labels=("testapp.Note",))
    a, b = made.values()
    assert a.canonical("testapp.Note") == b.canonical("testapp.Note")
    assert sent(a, b) == 0
    for one in made.values():
        assert found_by_reconciliation(one) == {}
