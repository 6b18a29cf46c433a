"""What replication's own tables have in common, beside the host project's."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import models, router

_M = TypeVar("_M", bound=models.Model)


class PrimaryQuerySet(models.QuerySet[_M]):
    """Reads where it would write: a copy that lags behind must not answer what has been posted or acknowledged."""

    @property
    def db(self) -> str:
        return self._db or router.db_for_write(self.model, **self._hints)  # type: ignore[attr-defined,no-any-return]


class PrimaryManager(models.Manager[_M]):
    """A manager whose queries a router can't send to a read replica."""

    def get_queryset(self) -> PrimaryQuerySet[_M]:
        return PrimaryQuerySet(self.model, using=self._db, hints=self._hints)  # type: ignore[attr-defined]


class ReplicaState(models.Model):
    """A table that is true of this database only.

    ``loaddata`` skips its rows: those of another database would make this one an impostor (its identity), or let it
    believe that it has rows which it has not (ledger, vectors, cursors). Rows of tests with ``serialized_rollback``
    are skipped likewise.
    """

    objects = PrimaryManager()

    class Meta:
        abstract = True

    def _save_table(self, raw: bool = False, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override,unused-ignore]
        # Django's step between the signals; raw is a fixture's.
        return raw or super()._save_table(raw, *args, **kwargs)  # type: ignore[misc]


# Foreign keys to these tables follow it, too. Not in Meta: that would be inherited into migrations.
ReplicaState._meta.base_manager_name = "objects"
