"""The mixin for models whose rows replicate."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Self, TypeVar

import uuid_utils.compat
from django.db import models

from p2p_replication.conf import app_settings
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.handle import PoolHandle, async_p2p, sync_p2p
from p2p_replication.models.loaded_values import LoadedValues

_M = TypeVar("_M", bound=models.Model)


def uuid7() -> uuid.UUID:
    """A new UUID version 7 (RFC 9562): unique everywhere, and close to its neighbours in an index.

    This name stands in the migrations of every project that uses ``ReplicatedModel``: it must not move.
    """
    return uuid_utils.compat.uuid7()


#: Migrations name a function by its module: by the one that is promised.
uuid7.__module__ = "p2p_replication.models"


class ReplicatedQuerySet(models.QuerySet[_M]):
    """A plain queryset: every write is captured in the database, so nothing has to be done here."""


class ReplicatedManager(models.Manager.from_queryset(ReplicatedQuerySet)[_M]):  # type: ignore[misc]
    """A manager with ``sync_p2p()``."""

    def sync_p2p(self, topic: str, **options: Any) -> PoolHandle:
        """Let this model's rows replicate with everyone in the topic; options as in ``p2p_replication.sync_p2p``."""
        self._refuse_related("sync_p2p", topic)
        return sync_p2p(self.model, topic, **options)

    async def async_p2p(self, topic: str, **options: Any) -> PoolHandle:
        """The async twin of ``sync_p2p``."""
        self._refuse_related("async_p2p", topic)
        return await async_p2p(self.model, topic, **options)

    def _refuse_related(self, method: str, topic: str) -> None:
        filters = getattr(self, "core_filters", None)
        if filters is None:
            return
        where = ", ".join(f"{name}={value!r}" for name, value in filters.items())
        raise ConfigurationError(
            f"{method}() on a related manager would declare the whole table of {self.model._meta.label}. "
            f"Write {self.model.__name__}.objects.{method}({topic!r}, where=dict({where})) if you mean these rows only."
        )


class ReplicatedModel(models.Model):
    """Base of a model whose rows replicate: a UUIDv7 key and a manager with ``sync_p2p()``.

    ``save()`` of a loaded instance writes only the fields that changed since it was loaded: a stale instance must
    not revert what came from another replica meanwhile. ``update_fields`` given by the caller is respected;
    ``save_changed_fields = False`` on the class, or the setting ``SAVE_CHANGED_FIELDS``, switch it off.
    """

    is_p2p_replicated: ClassVar[bool] = True
    save_changed_fields: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    objects = ReplicatedManager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        # Of an instance with deferred fields, Django names the loaded ones as update_fields by itself.
        names = args[3] if len(args) > 3 else kwargs.get("update_fields")
        outer = self.__dict__.get("_p2p_save_named", False)
        self.__dict__["_p2p_save_named"] = names is not None
        try:
            super().save(*args, **kwargs)
        finally:
            # A signal's receiver may save the instance within its save().
            self.__dict__["_p2p_save_named"] = outer

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any], **options: Any) -> Self:
        instance = super().from_db(db, field_names, values, **options)
        instance.__dict__["_p2p_loaded"] = LoadedValues.of_row(db, field_names, values)
        return instance

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Any] | None = None,
    ) -> None:
        names = None if fields is None else list(fields)
        super().refresh_from_db(using=using, fields=names, from_queryset=from_queryset)
        self.__dict__["_p2p_loaded"] = self._p2p_known().loaded(self, self._state.db, names)

    def _save_table(  # type: ignore[override,unused-ignore]
        self,
        raw: bool = False,
        cls: Any = None,
        force_insert: Any = False,
        force_update: bool = False,
        using: Any = None,
        update_fields: Collection[str] | None = None,
    ) -> Any:
        # Django's step between the signals: what receivers of post_save do to the instance is not saved yet.
        updated = super()._save_table(raw, cls, force_insert, force_update, using, update_fields)  # type: ignore[misc]
        # Of a child in multi-table inheritance each table has its turn.
        written = {f.attname for f in cls._meta.local_concrete_fields}
        if update_fields:
            written = {f.attname for f in cls._meta.local_concrete_fields if {f.name, f.attname} & set(update_fields)}
        self.__dict__["_p2p_loaded"] = self._p2p_known().saved(self, using, written)
        return updated

    def _do_update(  # type: ignore[override,unused-ignore]
        self, base_qs: Any, using: Any, pk_val: Any, values: list[Any], update_fields: Any, *args: Any, **kwargs: Any
    ) -> Any:
        # Django's hook between "what save() would write" and the UPDATE: pre_save() has run, so auto_now fields
        # show as changed, and a row that is gone is inserted whole as always.
        if self._p2p_may_narrow(using, base_qs.model, pk_val):
            loaded = self._p2p_known()
            values = [item for item in values if loaded.differs(item[0].attname, item[2])]
            # With nothing to write Django looks whether the row is there, unless the caller named the fields.
            update_fields = None
        return super()._do_update(base_qs, using, pk_val, values, update_fields, *args, **kwargs)  # type: ignore[misc]

    def _p2p_may_narrow(self, using: str, table: type[models.Model], pk_val: Any) -> bool:
        """Whether this save may leave fields out: its values were loaded from (or saved to) this very row."""
        if self.__dict__.get("_p2p_save_named") or not (self.save_changed_fields and app_settings.SAVE_CHANGED_FIELDS):
            return False
        known = self._p2p_known()
        return known.alias == using and known.values.get(table._meta.pk.attname) == pk_val  # type: ignore[union-attr]

    def _p2p_known(self) -> LoadedValues:
        return self.__dict__.get("_p2p_loaded", LoadedValues()).certain()  # type: ignore[no-any-return]
