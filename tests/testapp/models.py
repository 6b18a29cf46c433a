"""Replicated models of the test suite."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.db.models.functions import Lower

from p2p_replication.merges import Counter, Max, Min, Union
from p2p_replication.models import ReplicatedModel, uuid7
from tests.testapp.tallies import longer, merged_dict


class Note(ReplicatedModel):
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True, default="")
    stars = models.IntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.title


class Tally(ReplicatedModel):
    """Fields with every kind of merge."""

    visits = models.IntegerField(default=0)
    sum = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    best = models.IntegerField(null=True)
    first = models.DateTimeField(null=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    tags = models.JSONField(null=True)
    note = models.TextField(null=True)
    scores = models.JSONField(default=dict)
    title = models.TextField(default="")

    class Replication:
        merge = {
            "visits": Counter(), "sum": Counter(), "best": Max(), "first": Min(), "price": Max, "tags": Union(),
            "note": longer, "scores": merged_dict,
        }  # fmt: skip

    def __str__(self) -> str:
        return self.title


class Shelf(ReplicatedModel):
    name = models.CharField(max_length=100, unique=True)

    def __str__(self) -> str:
        return self.name


class Book(ReplicatedModel):
    shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE)
    title = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.title


class Sample(ReplicatedModel):
    """One field of every built-in kind."""

    text = models.TextField(null=True)
    whole = models.BigIntegerField(null=True)
    flag = models.BooleanField(null=True)
    real = models.FloatField(null=True)
    amount = models.DecimalField(max_digits=20, decimal_places=4, null=True)
    day = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    clock = models.TimeField(null=True)
    span = models.DurationField(null=True)
    blob = models.BinaryField(null=True)
    data = models.JSONField(null=True)
    ref = models.UUIDField(null=True)

    def __str__(self) -> str:
        return str(self.pk)


class Reader(ReplicatedModel):
    """Has many-to-many rows that refer to a shelf."""

    shelves = models.ManyToManyField(Shelf)

    def __str__(self) -> str:
        return str(self.pk)


class Team(ReplicatedModel):
    """A foreign key cycle with Player."""

    name = models.CharField(max_length=50)
    captain = models.ForeignKey("Player", null=True, on_delete=models.SET_NULL, related_name="+")

    def __str__(self) -> str:
        return self.name


class Player(ReplicatedModel):
    name = models.CharField(max_length=50)
    team = models.ForeignKey(Team, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return self.name


class Branch(ReplicatedModel):
    """Points at its own table."""

    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return str(self.pk)


class Coin(models.Model):
    """A natural key: two replicas may insert the same one."""

    is_p2p_replicated = True

    code = models.CharField(max_length=20, primary_key=True)
    name = models.CharField(max_length=50, default="")
    rate = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.code


class Ruled(ReplicatedModel):
    """Everything a database can refuse a row for, and a column that compares without case."""

    code = models.CharField(max_length=20, unique=True, null=True)
    left = models.IntegerField(null=True)
    right = models.IntegerField(null=True)
    amount = models.IntegerField(default=0)
    label = models.CharField(max_length=50, default="", db_collation="NOCASE")
    must = models.TextField(default="")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(amount__gte=0), name="ruled_amount_not_negative"),
            models.UniqueConstraint(fields=["left", "right"], name="ruled_left_right"),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class KeyOnly(ReplicatedModel):
    """A table with no column besides the key."""

    def __str__(self) -> str:
        return str(self.pk)


class OddNames(ReplicatedModel):
    """Names that need quoting: 80 characters, spaces, percent signs, other scripts (flush cannot take apostrophes)."""

    plain = models.TextField(default="", db_column="it's 100% «größe» 表 " + "x" * 59)
    order = models.TextField(default="", db_column="select")
    unique_one = models.CharField(max_length=50, null=True, unique=True, db_column="a b.c;--")

    class Meta:
        db_table = "a % «tablë» 表; " + "y" * 60

    def __str__(self) -> str:
        return str(self.pk)


class LongNames(ReplicatedModel):
    """Names of more bytes than PostgreSQL takes, which it cuts off."""

    text = models.TextField(default="", db_column="größe" * 14)
    other = models.IntegerField(default=0)

    class Meta:
        db_table = "«tablë» " + "y" * 80

    def __str__(self) -> str:
        return str(self.pk)


#: More columns than one bitmap has bits.
Wide = type(
    "Wide",
    (ReplicatedModel,),
    {
        "__module__": __name__,
        "__doc__": "Needs three blocks of a changed-column bitmap.",
        **{f"c{i}": models.IntegerField(default=0) for i in range(130)},
    },
)


class Diary(ReplicatedModel):
    """Has fields that stay local, one with a default and one that may be empty."""

    text = models.TextField(default="")
    private = models.TextField(default="mine")
    shade = models.IntegerField(null=True)
    counted = models.IntegerField(db_default=5)

    class Replication:
        exclude = ["private", "shade"]

    def __str__(self) -> str:
        return self.text


class Tags(models.TextField):
    """A field of a project's own: a list in Python, a text with commas in the database."""

    def from_db_value(self, value: str | None, expression: object, connection: object) -> list[str] | None:
        return None if value is None else value.split(",")

    def get_prep_value(self, value: list[str] | None) -> str | None:
        return value if value is None or isinstance(value, str) else ",".join(value)


class Cents(models.Field):
    """A field of a project's own that is no subclass of the kind it stores."""

    def get_internal_type(self) -> str:
        return "BigIntegerField"

    def from_db_value(self, value: int | None, expression: object, connection: object) -> str | None:
        return None if value is None else f"{value // 100}.{value % 100:02}"

    def get_prep_value(self, value: str | None) -> int | None:
        return None if value is None else int(value.replace(".", ""))


class Specimen(ReplicatedModel):
    """The kinds of fields that Sample lacks, and what a column can be besides."""

    size = models.CharField(max_length=3, choices=[("s", "small"), ("l", "large")], null=True)
    slug = models.SlugField(null=True)
    email = models.EmailField(null=True)
    url = models.URLField(null=True)
    address = models.GenericIPAddressField(null=True)
    old_address = models.GenericIPAddressField(protocol="IPv4", null=True)
    small = models.SmallIntegerField(null=True)
    positive = models.PositiveIntegerField(null=True)
    positive_small = models.PositiveSmallIntegerField(null=True)
    positive_big = models.PositiveBigIntegerField(null=True)
    document = models.FileField(null=True)
    path = models.FilePathField(null=True)
    renamed = models.IntegerField(null=True, db_column="another name")
    defaulted = models.IntegerField(db_default=7)
    blank = models.TextField(db_default="")
    doubled = models.GeneratedField(
        expression=models.F("small") * 2, output_field=models.IntegerField(null=True), db_persist=True
    )
    tags = Tags(null=True)
    price = Cents(null=True)

    def __str__(self) -> str:
        return str(self.pk)


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


class Depot(models.Model):
    """An integer primary key, which stays local: the slug says everywhere which row is meant."""

    is_p2p_replicated = True

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=50, default="")

    class Replication:
        key = "slug"

    def __str__(self) -> str:
        return self.slug


class Crate(models.Model):
    """Refers to a depot and to its own table by local numbers."""

    is_p2p_replicated = True

    uid = models.UUIDField(default=uuid7, unique=True, editable=False)
    depot = models.ForeignKey(Depot, on_delete=models.CASCADE)
    inside = models.ForeignKey("self", null=True, on_delete=models.SET_NULL)
    label = models.CharField(max_length=50, default="")

    class Replication:
        key = "uid"

    def __str__(self) -> str:
        return self.label


class Parcel(models.Model):
    """Local numbers in unique constraints, and foreign keys to them with several ``on_delete``."""

    is_p2p_replicated = True

    uid = models.UUIDField(default=uuid7, unique=True, editable=False)
    code = models.CharField(max_length=20, unique=True, null=True)
    depot = models.ForeignKey(Depot, null=True, on_delete=models.SET_NULL)
    slot = models.IntegerField(null=True)
    guarded = models.ForeignKey(Crate, null=True, on_delete=models.PROTECT)
    part_of = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
    handled = models.IntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["depot", "slot"], name="parcel_slot")]

    class Replication:
        key = "uid"
        exclude = ["handled"]

    def __str__(self) -> str:
        return str(self.uid)


class Stamp(ReplicatedModel):
    """Refers to a row with a local number from a row that has none."""

    crate = models.ForeignKey(Crate, null=True, on_delete=models.CASCADE)
    text = models.CharField(max_length=50, default="")

    def __str__(self) -> str:
        return self.text
