"""The conflict log: values that replicas wrote without knowing of each other, and that lost."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from p2p_replication.models.own_tables import PrimaryQuerySet, ReplicaState

SHOWN_CHARACTERS = 200

_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode


class ConflictKind(models.TextChoices):
    #: Another value of the field is newer.
    OVERWRITTEN = "overwritten", _("overwritten")
    #: The row was deleted.
    DELETED = "deleted", _("lost with the row")


class ConflictQuerySet(PrimaryQuerySet["Conflict"]):
    def open(self) -> ConflictQuerySet:
        """Those that nobody has restored."""
        return self.filter(restored_at=None)

    def prune(self, days: int) -> None:
        """Delete what was noticed longer ago than so many days."""
        self.filter(noticed_at__lt=timezone.now() - datetime.timedelta(days=days)).delete()


class Conflict(ReplicaState):
    """Values of one row that lost, whose they were, and against what (DESIGN 2, guarantee 3).

    Every replica that held a value when it lost has an entry of its own.
    """

    #: Set by the app when Django starts: models are below what writes rows.
    restorer: ClassVar[Callable[[Conflict], None]]

    #: ``app_label.ModelName``
    model = models.CharField(_("model"), max_length=200)
    #: The row's key, as the ledger has it.
    key = models.TextField(_("key"))
    kind = models.CharField(_("kind"), max_length=20, choices=ConflictKind.choices)
    #: The fields that lost. Of a row that was deleted: those that its deleter did not know of.
    fields = models.JSONField(_("fields"))
    #: msgpack ``{field: wire value}``. Of a row that was deleted: the whole row, so that it can be put back.
    lost = models.BinaryField()
    #: msgpack ``{field: wire value}`` of what won, null if that is a delete.
    won = models.BinaryField(null=True)
    #: Clocks of the two writes; of several edits that were lost with a row, the latest.
    lost_clock = models.BigIntegerField()
    won_clock = models.BigIntegerField()
    #: Ids of the replicas that wrote, of one that was never met directly the first four digits; empty for what was
    #: there before replication.
    lost_by = models.CharField(_("written by"), max_length=32, blank=True, default="")
    won_by = models.CharField(_("lost to"), max_length=32, blank=True, default="")
    noticed_at = models.DateTimeField(_("noticed"), auto_now_add=True)
    restored_at = models.DateTimeField(_("restored"), null=True, blank=True)

    objects = ConflictQuerySet.as_manager()  # type: ignore[misc, assignment]

    class Meta:
        verbose_name = _("conflict")
        verbose_name_plural = _("conflicts")
        constraints = [
            # A version that comes again, by another way, is no other conflict.
            models.UniqueConstraint(fields=["model", "key", "kind", "lost_clock", "fields"], name="p2p_conflict_key")
        ]
        indexes = [models.Index(fields=["noticed_at"], name="p2p_conflict_noticed")]
        ordering = ["-noticed_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.model} {self.key}: {', '.join(self.fields)} {self.get_kind_display()}"

    @property
    def lost_values(self) -> dict[str, Any]:
        """The values that lost, by field, as they travel."""
        values = _unpack(bytes(self.lost))
        return {name: values[name] for name in self.fields}

    @property
    def lost_row(self) -> dict[str, Any]:
        """All values that were kept: of a row that was deleted, the whole row."""
        return _unpack(bytes(self.lost))

    @property
    def won_values(self) -> dict[str, Any]:
        """The values that won, by field, as they travel; empty if that was a delete."""
        return _unpack(bytes(self.won)) if self.won is not None else {}

    def restore(self) -> None:
        """Write the values that lost into the table again, as a new change of this replica: it replicates.

        A row that was deleted is put back whole; where it has come again meanwhile, only the lost edits are written.
        Raises CannotRestore with a text that says why, if the row is parked, gone, or the database refuses.
        """
        type(self).restorer(self)


def shown_values(values: dict[str, Any]) -> str:
    """Return values that travel as people read them: ``name = value``, long ones cut."""
    return ", ".join(f"{name} = {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
