"""Replicated models that refer to models of Django's own apps, which do not replicate.

They have an app of their own, with migrations: tables without any are made before those of Django's apps.
"""

from __future__ import annotations

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import models

from p2p_replication.models import ReplicatedModel


class Errand(ReplicatedModel):
    """Refers to models that do not replicate, by their natural keys, and to anything at all."""

    owner = models.ForeignKey("auth.User", null=True, on_delete=models.SET_NULL)
    group = models.ForeignKey("auth.Group", null=True, on_delete=models.CASCADE)
    content_type = models.ForeignKey("contenttypes.ContentType", null=True, on_delete=models.CASCADE)
    object_id = models.CharField(max_length=36, default="")
    target = GenericForeignKey()
    title = models.CharField(max_length=50, default="")

    def __str__(self) -> str:
        return self.title


class Duty(ReplicatedModel):
    """Can't be without a model that does not replicate."""

    user = models.ForeignKey("auth.User", on_delete=models.CASCADE)
    title = models.CharField(max_length=50, default="")

    def __str__(self) -> str:
        return self.title
