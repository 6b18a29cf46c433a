"""Replicated models of the test suite."""

from __future__ import annotations

from django.db import models

from p2p_replication.models import ReplicatedModel


class Note(ReplicatedModel):
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True, default="")
    stars = models.IntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

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
