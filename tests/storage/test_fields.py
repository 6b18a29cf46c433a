"""Every built-in kind of field, and what a column can be besides: equal on both sides, whatever their databases.

The twelve kinds that differ between databases are in test_codecs.py, with values drawn by Hypothesis.
"""

from __future__ import annotations

import pytest

from tests.storage.conftest import meet
from tests.testapp.models import Specimen

LABEL = "testapp.Specimen"
pytestmark = pytest.mark.on("sqlite", "postgresql", "mixed")

VALUES = {
    "size": ["s", "l", ""],
    "slug": ["a-slug_1", ""],
    "email": ["ana@example.org", "\u00e4@b\u00fccher.example"],
    "url": ["https://example.org/?q=%C3%A9&x=1#y"],
    "address": ["192.168.0.1", "2001:db8::1", "::1", "::ffff:10.0.0.1", "fe80::1:0:0:2"],
    "old_address": ["10.0.0.255", "0.0.0.0"],
    "small": [-32768, 0, 32767 // 2],
    "positive": [0, 2147483647],
    "positive_small": [0, 32767],
    "positive_big": [0, 9223372036854775807],
    "document": ["uploads/a file (1).pdf", ""],
    "path": ["/srv/data/caf\u00e9.txt"],
    "renamed": [1, -1],
    "defaulted": [0, -5],
    "blank": ["", " ", "line\r\nline\t\U0001f600"],
    "tags": [["a"], ["a", "", "b"]],
    "price": ["1234567890.05", "0.00"],
}
CASES = [(name, value) for name in VALUES for value in VALUES[name]]


def values(replica) -> list:
    names = [f.name for f in Specimen._meta.concrete_fields if f.name != "document"]
    return sorted(Specimen.objects.using(replica.alias).values_list("document", *names), key=lambda row: row[1])


def assert_equal(a, b) -> None:
    assert a.parked() == b.parked() == 0
    assert a.canonical(LABEL) == b.canonical(LABEL)
    assert list(map(repr, values(a))) == list(map(repr, values(b)))


def test_values_arrive_in_both_directions(replica):
    a, b = replica("a"), replica("b")
    for one, part in ((a, CASES[::2]), (b, CASES[1::2])):
        for name, value in part:
            Specimen.objects.using(one.alias).create(**{name: value})
    meet(a, b, labels=(LABEL,))
    assert_equal(a, b)
    held = Specimen.objects.using("b")
    for name, value in CASES:
        assert held.filter(**{name: value}).exists(), (name, value)


def test_edits_arrive_in_both_directions(replica):
    a, b = replica("a"), replica("b")
    row = Specimen.objects.using("a").create()
    for number, (name, value) in enumerate(CASES):
        one = (a, b)[number % 2]
        meet(a, b, labels=(LABEL,))
        Specimen.objects.using(one.alias).filter(pk=row.pk).update(**{name: value})
    meet(a, b, labels=(LABEL,))
    assert_equal(a, b)


def test_null_and_empty_stay_apart(replica):
    a, b = replica("a"), replica("b")
    empty = dict.fromkeys(("size", "slug", "email", "url", "document", "path"), "")
    null = Specimen.objects.using("a").create()
    a.sql("UPDATE testapp_specimen SET document = NULL")  # Django itself writes an empty name.
    full = Specimen.objects.using("b").create(**empty)
    meet(a, b, labels=(LABEL,))
    assert_equal(a, b)
    raw = "SELECT size, slug, email, url, document, path FROM testapp_specimen WHERE id = %s"
    for one in (a, b):
        assert one.sql(raw, [one.site.key(null.pk)]) == [(None,) * 6]
        assert one.sql(raw, [one.site.key(full.pk)]) == [("",) * 6]


def test_a_default_of_the_database_is_taken_where_the_row_was_written(replica):
    """What the writer's database put in travels; another replica's own default counts for nothing."""
    a, b = replica("a"), replica("b")
    b.sql("INSERT INTO testapp_specimen (id, defaulted) VALUES ('00000000000000000000000000000001', 1)")
    Specimen.objects.using("a").create(slug="by default")
    meet(a, b, labels=(LABEL,))
    assert_equal(a, b)
    assert set(Specimen.objects.using("b").values_list("defaulted", "blank")) == {(7, ""), (1, "")}


def test_a_generated_field_is_computed_on_each_side_and_never_sent(replica):
    a, b = replica("a"), replica("b")
    assert "doubled" not in a.stream(LABEL).table.names
    row = Specimen.objects.using("a").create(small=21)
    meet(a, b, labels=(LABEL,))
    assert Specimen.objects.using("b").get(pk=row.pk).doubled == 42
    Specimen.objects.using("b").update(small=-4)
    meet(a, b, labels=(LABEL,))
    assert Specimen.objects.using("a").get(pk=row.pk).doubled == -8
    assert_equal(a, b)
