"""The mixin for models whose rows replicate."""

from __future__ import annotations

import copy
import datetime
import decimal
import uuid
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Self, TypeVar

import uuid_utils.compat
from django.db import models

from p2p_replication.conf import app_settings
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.handle import PoolHandle, async_p2p, sync_p2p

_M = TypeVar("_M", bound=models.Model)
_IMMUTABLE = (str, int, float, bytes, bool, type(None), decimal.Decimal, uuid.UUID, datetime.date, datetime.time,
              datetime.timedelta)  # fmt: skip


def uuid7() -> uuid.UUID:
    """A new UUID version 7 (RFC 9562): unique everywhere, and close to its neighbours in an index.

    This name stands in the migrations of every project that uses ``ReplicatedModel``: it must not move.
    """
    return uuid_utils.compat.uuid7()


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

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any]) -> Self:
        instance = super().from_db(db, field_names, values)
        instance._remember_loaded()
        return instance

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Sequence[str] | None = None,
        from_queryset: models.QuerySet[Any] | None = None,
    ) -> None:
        super().refresh_from_db(using=using, fields=fields, from_queryset=from_queryset)
        self._remember_loaded(fields)

    def save_base(self, *args: Any, update_fields: Collection[str] | None = None, **kwargs: Any) -> None:
        super().save_base(*args, update_fields=update_fields, **kwargs)
        self._remember_loaded(update_fields)

    def _do_update(
        self, base_qs: Any, using: Any, pk_val: Any, values: list[Any], update_fields: Any, *args: Any, **kwargs: Any
    ) -> Any:
        # Django's hook between "what save() would write" and the UPDATE: pre_save() has run, so auto_now fields
        # show as changed, and a row that is gone is inserted whole as always.
        if update_fields is None and self.save_changed_fields and app_settings.SAVE_CHANGED_FIELDS:
            loaded = self.__dict__.get("_p2p_loaded", {})
            values = [item for item in values if _differs(loaded, item[0].attname, item[2])]
        return super()._do_update(base_qs, using, pk_val, values, update_fields, *args, **kwargs)  # type: ignore[misc]

    def _remember_loaded(self, names: Collection[str] | None = None) -> None:
        loaded = self.__dict__.setdefault("_p2p_loaded", {})
        for field in self._meta.concrete_fields:
            if (names is None or field.name in names or field.attname in names) and field.attname in self.__dict__:
                value = self.__dict__[field.attname]
                loaded[field.attname] = value if isinstance(value, _IMMUTABLE) else _copy(value)


def _differs(loaded: dict[str, Any], attname: str, value: Any) -> bool:
    if attname not in loaded or hasattr(value, "resolve_expression"):
        return True
    before = loaded[attname]
    # Not only by ==: 0.0 equals -0.0, True equals 1, and Decimal("1.0") equals Decimal("1").
    return type(before) is not type(value) or before != value or repr(before) != repr(value)


def _copy(value: Any) -> Any:
    if isinstance(value, models.fields.files.FieldFile):
        return value.name
    return copy.deepcopy(value)
