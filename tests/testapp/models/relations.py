"""Models that relate to each other in every way: many-to-many, inheritance, unique values, on_delete."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.db.models.functions import Lower

from p2p_replication.models import ReplicatedModel
from tests.testapp.models.rows import Shelf


class Folder(ReplicatedModel):
    """A tree in which every name is there once, and with a column that stays local."""

    name = models.CharField(max_length=50, unique=True)
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL)
    opened = models.IntegerField(default=0)

    class Replication:
        exclude = ["opened"]


class Tag(ReplicatedModel):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Person(ReplicatedModel):
    """Has every kind of many-to-many field, with ends of several kinds of keys."""

    name = models.CharField(max_length=50, default="")
    tags = models.ManyToManyField(Tag, related_name="people")
    friends = models.ManyToManyField("self")
    follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")
    languages: models.ManyToManyField[Any, Any] = models.ManyToManyField("Language")
    secret_tags = models.ManyToManyField(Tag, related_name="+")
    hobbies: models.ManyToManyField[Any, Any] = models.ManyToManyField("Hobby")
    clubs: models.ManyToManyField[Any, Any] = models.ManyToManyField("Club", through="Membership")

    class Replication:
        exclude = ["secret_tags"]

    def __str__(self) -> str:
        return self.name


class Badge(ReplicatedModel):
    """Every kind of unique constraint that Django has."""

    folder = models.OneToOneField(Folder, null=True, on_delete=models.CASCADE)
    number = models.IntegerField(null=True)
    series = models.CharField(max_length=10, null=True)
    is_valid = models.BooleanField(default=True)
    name = models.CharField(max_length=50, default="")
    colour = models.CharField(max_length=10, null=True)
    shape = models.CharField(max_length=10, null=True)

    class Meta:
        unique_together = [("number", "series")]
        constraints = [
            models.UniqueConstraint(fields=["colour"], condition=models.Q(is_valid=True), name="badge_valid_colour"),
            models.UniqueConstraint(Lower("name"), condition=~models.Q(name=""), name="badge_name"),
            models.UniqueConstraint(fields=["shape"], condition=models.Q(number__gt=100), name="badge_big_shape"),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class ByDatabase:
    """An ``on_delete`` that the database carries out, as Django 6.1 has them."""

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def __call__(self, collector: object, field: object, sub_objs: object, using: object) -> None:
        pass


#: The desk that things go to by default.
SPARE_DESK = uuid.UUID(int=1)


def spare_desk() -> uuid.UUID:
    return SPARE_DESK


class Office(ReplicatedModel):
    name = models.CharField(max_length=50, default="")


class Box(ReplicatedModel):
    """Two edits of it may each be right, and together what no database takes."""

    width = models.IntegerField(default=1)
    height = models.IntegerField(default=1)
    inside = models.ForeignKey("self", null=True, on_delete=models.CASCADE)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(width__lte=10 - models.F("height")), name="box_half_its_girth")
        ]

    def __str__(self) -> str:
        return str(self.pk)


class Country(ReplicatedModel):
    code = models.CharField(max_length=3, unique=True)

    def __str__(self) -> str:
        return self.code


class City(ReplicatedModel):
    """Refers to another field than the key."""

    protect = models.ForeignKey(Country, null=True, to_field="code", on_delete=models.PROTECT, related_name="+")
    restrict = models.ForeignKey(Country, null=True, to_field="code", on_delete=models.RESTRICT, related_name="+")

    def __str__(self) -> str:
        return str(self.pk)


class Language(models.Model):
    """Its key is a text."""

    is_p2p_replicated = True

    code = models.CharField(max_length=20, primary_key=True)

    def __str__(self) -> str:
        return self.code


class Hobby(models.Model):
    """Does not replicate."""

    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Club(ReplicatedModel):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Membership(ReplicatedModel):
    """A through model of its own."""

    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    club = models.ForeignKey(Club, on_delete=models.CASCADE)
    role = models.CharField(max_length=50, default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["person", "club"], name="membership_pair")]

    def __str__(self) -> str:
        return self.role


class Place(ReplicatedModel):
    """A parent in multi-table inheritance, which has rows of its own as well."""

    name = models.CharField(max_length=50)
    town = models.CharField(max_length=50, default="")
    tags = models.ManyToManyField(Tag, related_name="places")

    def __str__(self) -> str:
        return self.name


class Desk(ReplicatedModel):
    """Stands in the middle: it has parents of every kind, and children of every kind."""

    name = models.CharField(max_length=50, default="")
    office = models.ForeignKey(Office, null=True, on_delete=models.CASCADE)
    guarded = models.ForeignKey(Office, null=True, on_delete=models.PROTECT, related_name="+")

    def __str__(self) -> str:
        return self.name


class Thing(ReplicatedModel):
    """One foreign key with every ``on_delete``."""

    name = models.CharField(max_length=50, default="")
    cascade = models.ForeignKey(Desk, null=True, on_delete=models.CASCADE, related_name="+")
    protect = models.ForeignKey(Desk, null=True, on_delete=models.PROTECT, related_name="+")
    restrict = models.ForeignKey(Desk, null=True, on_delete=models.RESTRICT, related_name="+")
    set_null = models.ForeignKey(Desk, null=True, on_delete=models.SET_NULL, related_name="+")
    set_default = models.ForeignKey(Desk, null=True, on_delete=models.SET_DEFAULT, default=None, related_name="+")
    set_to = models.ForeignKey(Desk, null=True, on_delete=models.SET(spare_desk), related_name="+")
    nothing = models.ForeignKey(Desk, null=True, on_delete=models.DO_NOTHING, related_name="+")
    db_cascade = models.ForeignKey(Desk, null=True, on_delete=ByDatabase("CASCADE"), related_name="+")
    db_set_null = models.ForeignKey(Desk, null=True, on_delete=ByDatabase("SET NULL"), related_name="+")
    part_of = models.ForeignKey("self", null=True, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return self.name


class Click(models.Model):
    """Does not replicate, and refers to what does."""

    shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return str(self.pk)


class Restaurant(Place):
    stars = models.IntegerField(default=0)
    kitchen = models.CharField(max_length=50, default="")
    guests = models.ManyToManyField(Person, related_name="restaurants")


class Pizzeria(Restaurant):
    """Three tables deep."""

    ovens = models.IntegerField(default=1)


class Hotel(Place):
    """A child with a unique value."""

    licence = models.CharField(max_length=20, unique=True)


class Guest(ReplicatedModel):
    """Protects a row that goes on in its parent's table."""

    hotel = models.ForeignKey(Hotel, on_delete=models.PROTECT)

    def __str__(self) -> str:
        return str(self.pk)


class Eatery(Restaurant):
    """A proxy of a child."""

    class Meta:
        proxy = True


class Review(ReplicatedModel):
    """Refers to a parent, and to a child through its proxy."""

    place = models.ForeignKey(Place, on_delete=models.CASCADE, related_name="reviews")
    eatery = models.ForeignKey(Eatery, null=True, on_delete=models.SET_NULL, related_name="reviews_as_eatery")
    text = models.CharField(max_length=50, default="")

    def __str__(self) -> str:
        return self.text


class Passport(models.Model):
    """Its key is a one-to-one to another row, without inheritance."""

    is_p2p_replicated = True

    person = models.OneToOneField(Person, primary_key=True, on_delete=models.CASCADE)
    number = models.CharField(max_length=20, default="")

    def __str__(self) -> str:
        return self.number
