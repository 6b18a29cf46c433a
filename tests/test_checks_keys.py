"""The system checks of the field by which all replicas know a row."""
# ruff: noqa: DJ008 - models of these tests are never shown

from __future__ import annotations

from django.db import models

from p2p_replication.models import ReplicatedModel
from tests.checked_models import check
from tests.test_checks import ids
from tests.testapp.models import Depot, Note, Shelf


def test_an_integer_key_is_an_error(isolated: None) -> None:
    class Automatic(models.Model):
        class Meta:
            app_label = "testapp"

    class Whole(models.Model):
        number = models.IntegerField(primary_key=True)

        class Meta:
            app_label = "testapp"

    class OwnedByNumber(models.Model):
        whole = models.OneToOneField(Whole, on_delete=models.CASCADE, primary_key=True)

        class Meta:
            app_label = "testapp"

    for model in (Automatic, Whole, OwnedByNumber):
        found = check(model)
        assert ids(found) == ["E010"]
        assert "ReplicatedModel" in str(found[0].hint)


def test_keys_that_are_not_compared_exactly_are_refused(isolated: None) -> None:
    class ByName(models.Model):
        name = models.CharField(max_length=10, primary_key=True, db_collation="NOCASE")

        class Meta:
            app_label = "testapp"

    class BySlug(models.Model):
        slug = models.SlugField(unique=True, db_collation="nocase")

        class Meta:
            app_label = "testapp"

    class Exact(models.Model):
        name = models.CharField(max_length=10, primary_key=True, db_collation="C")

        class Meta:
            app_label = "testapp"

    assert ids(check(ByName)) == ["E010"]
    (found,) = check(BySlug, key="slug")
    assert found.id == "p2p_replication.E019"
    assert "slug is the key and has the collation 'nocase'" in found.msg
    assert check(Exact) == []


def test_a_local_number_that_the_database_does_not_enforce_is_an_error(isolated: None) -> None:
    class Loose(ReplicatedModel):
        depot = models.ForeignKey(Depot, on_delete=models.DO_NOTHING, db_constraint=False)
        by_key = models.ForeignKey(
            Depot, to_field="slug", on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
        )
        shelf = models.ForeignKey(Shelf, on_delete=models.DO_NOTHING, db_constraint=False)
        enforced = models.ForeignKey(Depot, on_delete=models.CASCADE, related_name="+")

        class Meta:
            app_label = "testapp"

    (found,) = check(Loose)
    assert found.id == "p2p_replication.E023" and found.msg.startswith("depot has db_constraint=False")
    assert "to_field='slug'" in str(found.hint)
    assert ids(check(Loose, exclude=frozenset({"depot"}))) == ["E015"]


def test_uuid_and_text_keys_are_silent(isolated: None) -> None:
    class ByCode(models.Model):
        code = models.CharField(max_length=10, primary_key=True)

        class Meta:
            app_label = "testapp"

    class ById(models.Model):
        id = models.UUIDField(primary_key=True)

        class Meta:
            app_label = "testapp"

    assert check(ByCode) == check(ById) == check(Note) == []


def test_a_key_besides_an_integer_primary_key_is_silent_if_it_can_be_one(isolated: None) -> None:
    class Place(models.Model):
        uid = models.UUIDField(unique=True)
        slug = models.SlugField()
        code = models.CharField(max_length=10, unique=True, null=True)
        number = models.IntegerField(unique=True)
        lent = models.OneToOneField(Note, on_delete=models.CASCADE)
        name = models.CharField(max_length=10)
        later = models.CharField(max_length=10)

        class Meta:
            app_label = "testapp"
            constraints = [
                models.UniqueConstraint(fields=["slug"], name="slug"),
                models.UniqueConstraint(fields=["name"], condition=models.Q(number=1), name="name"),
                models.UniqueConstraint(fields=["later"], name="later", deferrable=models.Deferrable.DEFERRED),
            ]

    for key in ("uid", "slug"):
        assert check(Place, key=key) == []
    problems = {
        "id": "is the primary key",
        "code": "may be null",
        "number": "is a IntegerField",
        "lent": "is a OneToOneField",
        "name": "is not unique",
        "later": "is not unique",
    }
    for key, problem in problems.items():
        found = check(Place, key=key)
        assert ids(found) == ["E019"]
        assert f"testapp.Place: key names {key}, which {problem}" in found[0].msg
        assert found[0].hint
    assert ids(check(Place, key="uid", exclude=frozenset({"uid"}))) == ["E016"]
    assert check(Place, key="uid", exclude=frozenset({"id"})) == []


def test_a_key_besides_a_primary_key_that_is_no_number_is_an_error(isolated: None) -> None:
    class Tagged(ReplicatedModel):
        slug = models.SlugField(unique=True)

        class Meta:
            app_label = "testapp"

    assert ids(check(Tagged, key="slug")) == ["E019"]


def test_what_would_be_known_by_a_local_number_is_an_error(isolated: None) -> None:
    class Annex(Depot):
        class Meta:
            app_label = "testapp"

    class Lease(models.Model):
        depot = models.OneToOneField(Depot, on_delete=models.CASCADE, primary_key=True)

        class Meta:
            app_label = "testapp"

    for model in (Annex, Lease):
        found = check(model)
        assert ids(found) == ["E010"]
        assert "to testapp.Depot as its primary key, which is a local number" in found[0].msg


def test_a_key_that_refers_out_of_replication_is_an_error(isolated: None) -> None:
    class Named(models.Model):
        name = models.CharField(max_length=10, primary_key=True)

        class Meta:
            app_label = "testapp"

    class OwnedByName(models.Model):
        named = models.OneToOneField(Named, on_delete=models.CASCADE, primary_key=True)

        class Meta:
            app_label = "testapp"

    assert ids(check(OwnedByName)) == ["E013"]
