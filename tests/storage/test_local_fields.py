"""Fields that an application keeps to itself."""

from __future__ import annotations

import uuid

from tests.storage.conftest import meet
from tests.storage.test_partial_rows import take, without
from tests.testapp.models import Diary

DIARY = ("testapp.Diary",)


def test_a_row_comes_in_though_a_local_field_must_not_be_null(replica):
    """The receiver's own default stands where nothing travels."""
    a, b = replica("a"), replica("b")
    Diary.objects.using("a").create(text="t", private="secret", shade=3)
    b.pull(a, DIARY)
    assert b.parked() == 0
    row = Diary.objects.using("b").get()
    assert (row.text, row.private, row.shade) == ("t", "mine", None)
    assert "secret" not in str(b.raw("testapp.Diary"))


def test_local_fields_say_nothing_and_outlive_what_comes_in(replica):
    a, b = replica("a"), replica("b")
    for one in (a, b):
        Diary(pk=uuid.UUID(int=1), text="t", private=one.alias, counted=1).save(using=one.alias, force_insert=True)
    meet(a, b, labels=DIARY)
    Diary.objects.using("b").update(private="still b", shade=1)
    assert b.log() == []
    Diary.objects.using("a").update(text="changed")
    meet(a, b, labels=DIARY)
    row = Diary.objects.using("b").get()
    assert (row.text, row.private, row.shade) == ("changed", "still b", 1)


def test_a_missing_field_with_a_default_of_the_database_gets_it(replica):
    a, b = replica("a"), replica("b")
    Diary.objects.using("a").create(text="t", counted=9)
    take(b, a, "testapp.Diary", without("counted"))
    assert b.parked() == 0
    assert Diary.objects.using("b").get().counted == 5
