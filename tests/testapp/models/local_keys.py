"""Models whose primary keys are local numbers: another field is the key."""

from __future__ import annotations

from django.db import models

from p2p_replication.models import ReplicatedModel, uuid7


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
