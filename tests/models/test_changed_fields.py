"""``ReplicatedModel.save()`` writes the fields that changed since the instance was loaded, and no others."""

from __future__ import annotations

import copy
import datetime
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connection, models
from django.db.models.signals import post_save, pre_save
from django.test import override_settings

from tests.testapp.models import Book, Note, Sample, Shelf

pytestmark = pytest.mark.django_db


@pytest.fixture
def note() -> Note:
    return Note.objects.create(title="one", body="two", stars=3)


def stale(note: Note, **elsewhere: Any) -> Note:
    """Load the note, then let somebody else change it."""
    loaded = Note.objects.get(pk=note.pk)
    Note.objects.filter(pk=note.pk).update(**elsewhere)
    return loaded


def test_a_stale_save_does_not_revert_another_column(note: Note) -> None:
    loaded = stale(note, body="from a peer", stars=9)
    loaded.title = "mine"
    loaded.save()
    now = Note.objects.get(pk=note.pk)
    assert (now.title, now.body, now.stars) == ("mine", "from a peer", 9)


def test_only_changed_columns_and_auto_now_are_in_the_statement(note: Note, written: Callable[..., Any]) -> None:
    loaded = Note.objects.get(pk=note.pk)
    loaded.title = "mine"
    with written() as columns:
        loaded.save()
    assert columns == ["title", "updated_at"]


def test_auto_now_is_written_by_a_save_that_changes_nothing(note: Note) -> None:
    long_ago = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    Note.objects.filter(pk=note.pk).update(updated_at=long_ago)
    Note.objects.get(pk=note.pk).save()
    assert Note.objects.get(pk=note.pk).updated_at > long_ago


def test_a_save_that_changes_nothing_writes_nothing(written: Callable[..., Any]) -> None:
    sample = Sample.objects.create(text="a")
    loaded = Sample.objects.get(pk=sample.pk)
    with written() as columns:
        loaded.save()
    assert columns == []


def test_a_new_instance_is_inserted_whole_and_later_saves_write_changes(
    note: Note, written: Callable[..., Any]
) -> None:
    now = Note.objects.get(pk=note.pk)
    assert (now.title, now.body, now.stars) == ("one", "two", 3)
    Note.objects.filter(pk=note.pk).update(body="from a peer")
    note.stars = 4
    with written() as columns:
        note.save()
    assert columns == ["stars", "updated_at"]
    assert Note.objects.get(pk=note.pk).body == "from a peer"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"real": 0.0}, {"real": -0.0}),
        ({"data": [1]}, {"data": [True]}),
        ({"data": {"a": 1}}, {"data": {"a": 1.0}}),
        ({"text": ""}, {"text": None}),
    ],
)
def test_equal_but_different_values_are_changes(
    before: dict[str, Any], after: dict[str, Any], written: Callable[..., Any]
) -> None:
    loaded = Sample.objects.get(pk=Sample.objects.create(**before).pk)
    for name, value in after.items():
        setattr(loaded, name, value)
    with written() as columns:
        loaded.save()
    assert columns == list(after)


def test_json_mutated_in_place_is_noticed() -> None:
    sample = Sample.objects.create(data={"tags": ["a"]})
    loaded = Sample.objects.get(pk=sample.pk)
    loaded.data["tags"].append("b")
    loaded.save()
    loaded.data["tags"].append("c")
    loaded.save()
    assert Sample.objects.get(pk=sample.pk).data == {"tags": ["a", "b", "c"]}


def test_expressions_are_always_written(note: Note) -> None:
    loaded = stale(note, stars=10)
    loaded.stars = models.F("stars") + 1
    loaded.save()
    assert Note.objects.get(pk=note.pk).stars == 11


def test_an_expression_that_stands_for_the_loaded_value_is_written(note: Note) -> None:
    loaded = stale(note, title="from a peer")
    loaded.title = models.Value("one")
    loaded.save()
    assert Note.objects.get(pk=note.pk).title == "one"


@pytest.mark.parametrize("query", [Note.objects.defer("body"), Note.objects.only("title", "stars")])
def test_an_instance_with_deferred_fields_writes_only_changes(
    note: Note, query: models.QuerySet[Note], written: Callable[..., Any]
) -> None:
    loaded = query.get(pk=note.pk)
    Note.objects.filter(pk=note.pk).update(stars=9)
    loaded.title = "mine"
    with written() as columns:
        loaded.save()
    assert "stars" not in columns and "body" not in columns
    now = Note.objects.get(pk=note.pk)
    assert (now.title, now.body, now.stars) == ("mine", "two", 9)


def test_a_deferred_field_counts_from_when_it_was_fetched(note: Note) -> None:
    loaded = Note.objects.defer("body").get(pk=note.pk)
    assert loaded.body == "two"
    Note.objects.filter(pk=note.pk).update(body="from a peer")
    loaded.title = "mine"
    loaded.save()
    assert Note.objects.get(pk=note.pk).body == "from a peer"


def test_a_deferred_field_that_is_assigned_is_written(note: Note) -> None:
    loaded = Note.objects.defer("body").get(pk=note.pk)
    loaded.body = "two"
    Note.objects.filter(pk=note.pk).update(body="from a peer")
    loaded.save()
    assert Note.objects.get(pk=note.pk).body == "two"


def test_update_fields_of_the_caller_are_written_even_if_unchanged(note: Note) -> None:
    loaded = stale(note, title="from a peer", body="from a peer")
    loaded.stars = 8
    loaded.save(update_fields=["title"])
    now = Note.objects.get(pk=note.pk)
    assert (now.title, now.body, now.stars) == ("one", "from a peer", 3)
    loaded.save()
    assert Note.objects.get(pk=note.pk).stars == 8


@pytest.mark.parametrize("pk_is_none", [True, False])
def test_a_copy_is_inserted_whole(note: Note, pk_is_none: bool) -> None:
    loaded = Note.objects.get(pk=note.pk)
    loaded.pk = None if pk_is_none else Note().pk
    loaded._state.adding = True
    loaded.title = "copy"
    loaded.save()
    assert loaded.pk != note.pk
    made = Note.objects.get(pk=loaded.pk)
    assert (made.title, made.body, made.stars) == ("copy", "two", 3)
    assert Note.objects.get(pk=note.pk).title == "one"


def test_a_copy_without_adding_is_inserted_whole(note: Note) -> None:
    loaded = Note.objects.get(pk=note.pk)
    loaded.pk = None
    loaded.save()
    made = Note.objects.get(pk=loaded.pk)
    assert made.pk != note.pk
    assert (made.title, made.body, made.stars) == ("one", "two", 3)


def test_saved_over_another_row_it_is_written_whole(note: Note) -> None:
    """The values were loaded from one row; nothing is known of the other."""
    other = Note.objects.create(title="other", body="other", stars=7)
    loaded = Note.objects.get(pk=note.pk)
    loaded.pk = other.pk
    loaded.save()
    now = Note.objects.get(pk=other.pk)
    assert (now.title, now.body, now.stars) == ("one", "two", 3)


def test_a_row_deleted_meanwhile_is_inserted_whole(note: Note) -> None:
    loaded = Note.objects.get(pk=note.pk)
    Note.objects.all().delete()
    loaded.title = "mine"
    loaded.save()
    now = Note.objects.get(pk=note.pk)
    assert (now.title, now.body, now.stars) == ("mine", "two", 3)


def test_a_row_deleted_meanwhile_is_inserted_even_if_nothing_changed() -> None:
    sample = Sample.objects.create(text="a", whole=1)
    loaded = Sample.objects.get(pk=sample.pk)
    Sample.objects.all().delete()
    loaded.save()
    now = Sample.objects.get(pk=sample.pk)
    assert (now.text, now.whole) == ("a", 1)


def test_forcing_an_update_of_a_row_that_is_gone_raises_as_always() -> None:
    sample = Sample.objects.create(text="a")
    loaded = Sample.objects.get(pk=sample.pk)
    Sample.objects.all().delete()
    with pytest.raises(DatabaseError, match="did not affect any rows"):
        loaded.save(force_update=True)


def test_refresh_from_db_starts_anew(note: Note) -> None:
    loaded = stale(note, title="from a peer")
    loaded.refresh_from_db()
    Note.objects.filter(pk=note.pk).update(title="again")
    loaded.stars = 5
    loaded.save()
    assert Note.objects.get(pk=note.pk).title == "again"


def test_refresh_of_some_fields_leaves_the_others_changed(note: Note) -> None:
    loaded = stale(note, title="from a peer")
    loaded.body = "mine"
    loaded.refresh_from_db(fields=["title"])
    loaded.save()
    now = Note.objects.get(pk=note.pk)
    assert (now.title, now.body) == ("from a peer", "mine")


def test_the_setting_switches_it_off(note: Note) -> None:
    loaded = stale(note, body="from a peer")
    with override_settings(P2P_REPLICATION={"SAVE_CHANGED_FIELDS": False}):
        loaded.save()
    assert Note.objects.get(pk=note.pk).body == "two"


def test_the_class_attribute_switches_it_off(note: Note, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Note, "save_changed_fields", False)
    loaded = stale(note, body="from a peer")
    loaded.save()
    assert Note.objects.get(pk=note.pk).body == "two"


def test_a_foreign_key_counts_by_its_value(written: Callable[..., Any]) -> None:
    first, second = Shelf.objects.create(name="first"), Shelf.objects.create(name="second")
    book = Book.objects.get(pk=Book.objects.create(shelf=first, title="b").pk)
    with written() as columns:
        book.shelf = Shelf.objects.get(pk=first.pk)
        book.save()
    assert columns == []
    with written() as columns:
        book.shelf = second
        book.save()
    assert columns == ["shelf_id"]


def test_what_a_receiver_of_pre_save_changes_is_written(note: Note) -> None:
    def shout(sender: Any, instance: Note, **kwargs: Any) -> None:
        instance.title = instance.title.upper()

    pre_save.connect(shout, sender=Note)
    try:
        loaded = Note.objects.get(pk=note.pk)
        loaded.save()
    finally:
        pre_save.disconnect(shout, sender=Note)
    assert Note.objects.get(pk=note.pk).title == "ONE"


def test_what_a_receiver_of_post_save_changes_is_written_by_the_next_save(note: Note) -> None:
    """It was set after the row was written, so the row does not have it."""

    def mark(sender: Any, instance: Note, **kwargs: Any) -> None:
        instance.body = "set after the save"

    loaded = Note.objects.get(pk=note.pk)
    post_save.connect(mark, sender=Note)
    try:
        loaded.save()
    finally:
        post_save.disconnect(mark, sender=Note)
    assert Note.objects.get(pk=note.pk).body == "two"
    loaded.save()
    assert Note.objects.get(pk=note.pk).body == "set after the save"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda note: pickle.loads(pickle.dumps(note))])
def test_copies_of_an_instance_remember_each_for_itself(note: Note, duplicate: Callable[[Note], Note]) -> None:
    first = Note.objects.get(pk=note.pk)
    second = duplicate(first)
    second.title = "second"
    second.save()
    Note.objects.filter(pk=note.pk).update(title="from a peer", body="from a peer")
    first.title = "second"
    first.save()
    now = Note.objects.get(pk=note.pk)
    assert (now.title, now.body) == ("second", "from a peer")


def test_loaddata_writes_rows_whole(note: Note) -> None:
    from django.core import serializers

    text = serializers.serialize("json", [note])
    Note.objects.filter(pk=note.pk).update(title="x", body="y", stars=0)
    for record in serializers.deserialize("json", text):
        record.save()
    now = Note.objects.get(pk=note.pk)
    assert (now.title, now.body, now.stars) == ("one", "two", 3)


async def test_asave_writes_changes_only(transactional_db: None) -> None:
    note = await Note.objects.acreate(title="one", body="two")
    loaded = await Note.objects.aget(pk=note.pk)
    await Note.objects.filter(pk=note.pk).aupdate(body="from a peer")
    loaded.title = "mine"
    await loaded.asave()
    now = await Note.objects.aget(pk=note.pk)
    assert (now.title, now.body) == ("mine", "from a peer")


def test_there_is_no_query_more_than_django_makes(note: Note, django_assert_num_queries: Any) -> None:
    loaded = Note.objects.get(pk=note.pk)
    loaded.title = "mine"
    with django_assert_num_queries(1, connection=connection):
        loaded.save()
