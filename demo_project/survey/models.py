"""A field survey: what was seen, where, by whom. All of it replicates."""

from __future__ import annotations

import datetime

from django.db import models
from django.urls import reverse
from django.utils import timezone

from demo_project.survey.topic import POOL_TOPIC
from p2p_replication.models import ReplicatedModel


def this_second() -> datetime.datetime:
    """Now, as exactly as the form's date field can show it."""
    return timezone.now().replace(microsecond=0)


class Place(ReplicatedModel):
    """A city or town of GeoNames."""

    #: GeoNames' own number. Not unique here: two nodes may load the cities independently of each other.
    geonameid = models.BigIntegerField()
    name = models.CharField(max_length=200)
    country_code = models.CharField("country", max_length=2)
    admin1_code = models.CharField("region", max_length=20, blank=True, default="")
    latitude = models.FloatField()
    longitude = models.FloatField()
    population = models.BigIntegerField(default=0, db_index=True)
    timezone = models.CharField(max_length=40, blank=True, default="")

    class Replication:
        pools = [POOL_TOPIC]

    def __str__(self) -> str:
        return f"{self.name}, {self.country_code}"

    def get_absolute_url(self) -> str:
        return reverse("place", args=[self.pk])


class Tag(ReplicatedModel):
    """A word to find observations by."""

    #: Two nodes that are out of each other's reach may both make the same one: then the older one stays.
    name = models.CharField(max_length=50, unique=True)

    class Meta:
        ordering = ["name"]

    class Replication:
        pools = [POOL_TOPIC]

    def __str__(self) -> str:
        return self.name


class Observation(ReplicatedModel):
    """Something that was seen at a place."""

    place = models.ForeignKey(Place, on_delete=models.CASCADE, related_name="observations")
    #: A user name as text: users don't replicate.
    observer = models.CharField(max_length=150)
    species = models.CharField(max_length=200)
    count = models.PositiveIntegerField(default=1)
    note = models.TextField(blank=True, default="")
    observed_at = models.DateTimeField(default=this_second)
    updated_at = models.DateTimeField(auto_now=True)
    tags = models.ManyToManyField(Tag, blank=True, related_name="observations")

    class Meta:
        ordering = ["-observed_at", "-id"]

    class Replication:
        pools = [POOL_TOPIC]

    def __str__(self) -> str:
        return f"{self.count} × {self.species}"

    def get_absolute_url(self) -> str:
        return reverse("place", args=[self.place_id])
