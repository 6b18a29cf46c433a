"""What was saved in a transaction that is rolled back counts as not saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from tests.testapp.models import Note


class Stop(Exception):
    """Rolls a transaction back."""


@pytest.fixture(params=["real transactions", "inside a TestCase"])
def note(request: pytest.FixtureRequest) -> Note:
    request.getfixturevalue("transactional_db" if request.param == "real transactions" else "db")
    return Note.objects.get(pk=Note.objects.create(title="one", body="two").pk)


def save_and_roll_back(note: Note) -> None:
    with pytest.raises(Stop), transaction.atomic():
        note.save()
        raise Stop


def test_a_save_repeated_after_a_rollback_writes(note: Note) -> None:
    note.title = "mine"
    save_and_roll_back(note)
    assert Note.objects.get(pk=note.pk).title == "one"
    note.save()
    assert Note.objects.get(pk=note.pk).title == "mine"


def test_a_creation_repeated_after_a_rollback_inserts_whole(note: Note) -> None:
    new = Note(title="new", body="all of it", stars=2)
    save_and_roll_back(new)
    new.save()
    now = Note.objects.get(pk=new.pk)
    assert (now.title, now.body, now.stars) == ("new", "all of it", 2)


def test_an_inner_rollback_takes_back_only_its_own_saves(note: Note) -> None:
    with transaction.atomic():
        note.title = "outer"
        note.save()
        note.body = "inner"
        save_and_roll_back(note)
        note.save()
    now = Note.objects.get(pk=note.pk)
    assert (now.title, now.body) == ("outer", "inner")


def test_an_outer_rollback_takes_back_inner_saves_too(note: Note) -> None:
    with pytest.raises(Stop), transaction.atomic():
        note.title = "outer"
        note.save()
        with transaction.atomic():
            note.body = "inner"
            note.save()
        raise Stop
    note.save()
    now = Note.objects.get(pk=note.pk)
    assert (now.title, now.body) == ("outer", "inner")


def test_after_a_commit_a_stale_save_reverts_nothing(note: Note) -> None:
    with transaction.atomic():
        note.title = "mine"
        note.save()
        note.stars = 1
        note.save()
    Note.objects.filter(pk=note.pk).update(title="from a peer")
    note.body = "mine"
    note.save()
    assert Note.objects.get(pk=note.pk).title == "from a peer"


def test_hooks_are_not_counted_in_tests(db: None, django_capture_on_commit_callbacks: Callable[..., Any]) -> None:
    """Tests of the host project count their own hooks: ours must not be among them."""
    with django_capture_on_commit_callbacks() as callbacks, transaction.atomic():
        note = Note.objects.create(title="one")
        note.title = "two"
        note.save()
    assert callbacks == []


def test_saved_to_another_database_it_is_written_whole(replica: Callable[..., Any], written: Any) -> None:
    """What was loaded from one database says nothing of another one's row."""
    replica("here"), replica("there")
    here, there = Note.objects.using("here"), Note.objects.using("there")
    note = here.get(pk=here.create(title="one", body="two", stars=3).pk)
    there.create(pk=note.pk, title="x", body="y", stars=0)
    note.save(using="there")
    now = there.get(pk=note.pk)
    assert (now.title, now.body, now.stars) == ("one", "two", 3)

    # It belongs to the other database now, and its saves are narrow there.
    there.filter(pk=note.pk).update(body="from a peer")
    note.title = "mine"
    with written("there") as columns:
        note.save()
    assert columns == ["title", "updated_at"]
    assert here.get(pk=note.pk).title == "one"
