"""This replica: who it is, and the numbers it has given so far."""

from __future__ import annotations

from typing import Any

from django.db import models

from p2p_replication.models.own_tables import ReplicaState


class SecretKeyField(models.BinaryField):
    """A private key. ``dumpdata`` writes it as nothing, so that a fixture can never clone an identity."""

    def value_to_string(self, obj: models.Model) -> str:
        return ""

    def to_python(self, value: Any) -> Any:
        return b"" if value in ("", None) else super().to_python(value)


class Replica(ReplicaState):
    """The one row that says who this database is. Made by the first worker that starts.

    ``sequence`` numbers both the dots this replica gives and every change of a ledger entry: it only rises,
    so that an own counter above *n* implies a ``seq`` above *n*.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    replica_id = models.CharField(max_length=32, unique=True, editable=False)
    secret_key = SecretKeyField(editable=False)
    sequence = models.BigIntegerField(default=0, editable=False)
    #: Log entries up to this id were posted in slices: digests of their rows may already hold later writes.
    unsettled_through = models.BigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "this replica"
        verbose_name_plural = "this replica"

    def __str__(self) -> str:
        return self.replica_id


class Origin(ReplicaState):
    """The short local number of an origin id, as the ledger's dots store it."""

    id = models.AutoField(primary_key=True)
    origin = models.CharField(max_length=16, unique=True)
    #: The replica whose start it was, where that has introduced itself; for people only.
    replica_id = models.CharField(max_length=32, blank=True, default="")

    def __str__(self) -> str:
        return self.origin


class Start(ReplicaState):
    """One start of a worker on this database: a new origin, never continued (DESIGN 4)."""

    origin = models.OneToOneField(Origin, on_delete=models.CASCADE, primary_key=True)
    #: Sequence numbers above this one were given by this start (or a later one).
    first_sequence = models.BigIntegerField()
    started_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.origin} from {self.first_sequence}"


class Applying(ReplicaState):
    """The marker that tells the triggers "this is the applier": written and removed inside its transaction."""

    id = models.SmallIntegerField(primary_key=True)

    def __str__(self) -> str:
        return "applying"
