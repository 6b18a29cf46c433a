"""The system checks of replicated models."""
# ruff: noqa: DJ008 - models of these tests are never shown

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import models

from p2p_replication.checks.models import check_model
from p2p_replication.merges import Counter, Max, Union
from p2p_replication.models import ReplicatedModel
from p2p_replication.protocol.field_merges import Merged
from p2p_replication.registry import registry
from tests.checked_models import check
from tests.test_checks import ids
from tests.testapp.models import Book, Depot, Note, Ruled, Shelf, Tally


def test_links_to_rows_with_local_numbers_stay_here_and_are_a_warning(isolated: None) -> None:
    class Route(ReplicatedModel):
        depots = models.ManyToManyField(Depot)

        class Meta:
            app_label = "testapp"

    (found,) = check(Route)
    assert found.id == "p2p_replication.W010"
    assert "depots stay here, as the primary keys of testapp.Depot are local numbers" in found.msg
    assert check(Route, exclude=frozenset({"depots"})) == []


def test_multi_table_inheritance_from_a_model_that_does_not_replicate_is_an_error(isolated: None) -> None:
    class Plain(models.Model):
        id = models.UUIDField(primary_key=True)

        class Meta:
            app_label = "testapp"

    class Special(Plain):
        class Meta:
            app_label = "testapp"

    found = check(Special)
    assert ids(found) == ["E011"]
    assert "testapp.Plain" in found[0].msg


def test_multi_table_inheritance_from_a_model_that_replicates_is_silent(isolated: None) -> None:
    class SpecialNote(Note):
        more = models.TextField()

        class Meta:
            app_label = "testapp"

    class ByKey(models.Model):
        note = models.OneToOneField(Note, primary_key=True, on_delete=models.CASCADE)

        class Meta:
            app_label = "testapp"

    assert check(SpecialNote) == check(ByKey) == []


def test_a_proxy_is_not_multi_table_inheritance(isolated: None) -> None:
    class NoteProxy(Note):
        class Meta:
            app_label = "testapp"
            proxy = True

    assert check(NoteProxy._meta.concrete_model) == []  # type: ignore[arg-type]


def test_a_field_that_can_not_travel_is_an_error_unless_excluded(isolated: None) -> None:
    class PointField(models.Field):
        def get_internal_type(self) -> str:
            return "PointField"

    class Sight(ReplicatedModel):
        where = PointField(null=True)

        class Meta:
            app_label = "testapp"

    found = check(Sight)
    assert ids(found) == ["E012"]
    assert "testapp.Sight.where is a PointField" in found[0].msg
    assert check(Sight, exclude=frozenset({"where"})) == []


def test_a_foreign_key_out_of_replication_is_an_error_unless_excluded(isolated: None) -> None:
    class Visit(ReplicatedModel):
        note = models.ForeignKey(Note, on_delete=models.CASCADE)
        parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
        guest = models.ForeignKey(User, null=True, on_delete=models.CASCADE)  # has natural keys
        session = models.ForeignKey(Session, null=True, on_delete=models.CASCADE)

        class Meta:
            app_label = "testapp"

    # The model's own label stands in the registry in real life.
    found = [m for m in check(Visit) if m.obj is not Visit._meta.get_field("parent")]
    assert ids(found) == ["E013"]
    assert "session refers to sessions.Session, which neither replicates nor has natural keys" in found[0].msg
    left = check(Visit, exclude=frozenset({"session", "parent"}))
    assert left == []


def test_an_excluded_field_that_a_row_needs_is_an_error(isolated: None) -> None:
    class Owned(ReplicatedModel):
        owner = models.ForeignKey(User, on_delete=models.CASCADE)
        seen = models.IntegerField()
        label = models.CharField(max_length=10)
        count = models.IntegerField(default=0)

        class Meta:
            app_label = "testapp"

    found = check(Owned, exclude=frozenset({"owner", "seen", "label", "count"}))
    assert ids(found) == ["E015", "E015"]
    assert {str(m.obj) for m in found} == {"testapp.Owned.owner", "testapp.Owned.seen"}


def test_excluding_the_key_is_an_error() -> None:
    assert ids(check(Note, exclude=frozenset({"id"}))) == ["E016"]


@pytest.mark.parametrize(
    ("model", "name", "merge", "problem"),
    [
        (Note, "title", Counter(), "of the kind text"),
        (Note, "stars", Union(), "of the kind integer"),
        (Tally, "best", Counter(), "may be null"),
        (Ruled, "code", Max(), "is unique"),
        (Ruled, "left", Max(), "is unique"),
        (Book, "shelf", Max(), "refers to another row"),
        (Note, "title", Merged("a lambda", lambda a, b: a), "top level of its module"),
    ],
)
def test_a_merge_that_is_not_for_that_field_is_an_error(model: Any, name: str, merge: Any, problem: str) -> None:
    found = check(model, merge={name: merge})
    assert ids(found) == ["E014"]
    assert problem in found[0].msg and f"{model._meta.label}.{name}" in found[0].msg


def test_merges_that_fit_are_fine() -> None:
    assert ids(check(Tally)) == []


def test_many_to_many_rows_that_stay_here_are_told_of(isolated: None) -> None:
    class Plain(models.Model):
        class Meta:
            app_label = "testapp"

    class Tagged(ReplicatedModel):
        plain = models.ManyToManyField(Plain)
        named = models.ManyToManyField(Note, through="testapp.Plain", related_name="+")
        shelves = models.ManyToManyField(Note, through="testapp.Shelf", related_name="+")

        class Meta:
            app_label = "testapp"

    Tagged._meta.get_field("shelves").remote_field.through = Shelf  # type: ignore[union-attr]
    found = check(Tagged)
    assert ids(found) == ["I010", "W010"]
    assert "plain" in found[0].msg and "named" in found[1].msg
    assert ids(check(Tagged, exclude=frozenset({"plain", "named"}))) == []


def test_the_table_of_a_many_to_many_field_is_no_model_to_complain_of() -> None:
    for label in ("testapp.Person_tags", "testapp.Person_friends", "testapp.Place_tags"):
        options = registry.get(label)
        assert options is not None and list(check_model(options)) == []


def test_a_generic_foreign_key_that_keeps_numbers_is_a_warning(isolated: None) -> None:
    from django.contrib.contenttypes.fields import GenericForeignKey
    from django.contrib.contenttypes.models import ContentType

    class Remark(ReplicatedModel):
        content_type = models.ForeignKey(ContentType, null=True, on_delete=models.CASCADE)
        object_id = models.PositiveIntegerField(null=True)
        target = GenericForeignKey()

        class Meta:
            app_label = "testapp"

    class Reply(ReplicatedModel):
        content_type = models.ForeignKey(ContentType, null=True, on_delete=models.CASCADE)
        object_id = models.CharField(max_length=36)
        target = GenericForeignKey()

        class Meta:
            app_label = "testapp"

    assert ids(check(Remark)) == ["W011"]
    assert check(Remark, exclude=frozenset({"content_type", "object_id"})) == []
    found = check(Reply)
    assert ids(found) == ["W013"]
    assert "testapp.Crate, testapp.Depot" in found[0].msg


def test_a_file_field_is_a_warning(isolated: None) -> None:
    class Photo(ReplicatedModel):
        file = models.FileField()
        updated_at = models.DateTimeField(auto_now=True)

        class Meta:
            app_label = "testapp"

    found = check(Photo)
    assert ids(found) == ["W012"]
    assert check(Photo, exclude=frozenset({"file"})) == []


def test_a_table_that_stays_and_refers_to_rows_that_may_clash_is_a_warning(isolated: None) -> None:
    class Product(ReplicatedModel):
        code = models.CharField(max_length=10, unique=True)

        class Meta:
            app_label = "testapp"

    class Plain(ReplicatedModel):
        class Meta:
            app_label = "testapp"

    class Click(models.Model):
        product = models.ForeignKey(Product, on_delete=models.CASCADE)
        loose = models.ForeignKey(Product, on_delete=models.CASCADE, db_constraint=False, related_name="+")
        plain = models.ForeignKey(Plain, on_delete=models.CASCADE)

        class Meta:
            app_label = "testapp"

    (found,) = check(Product)
    assert ids([found]) == ["W015"]
    assert "testapp.Click.product" in found.msg
    assert check(Plain) == []
