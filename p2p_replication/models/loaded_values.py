"""What the database is known to hold of a model instance, so that ``save()`` can write only what differs from it.

Knowing too little is harmless: one column more is written. Knowing too much would lose a write: so what was saved in
a transaction counts only until that transaction is rolled back.
"""

from __future__ import annotations

import copy
import datetime
import decimal
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

#: Values of exactly these types need no copy; most rows have no others.
_IMMUTABLE = frozenset({
    str, int, float, bytes, bool, type(None), decimal.Decimal, uuid.UUID, datetime.datetime, datetime.date,
    datetime.time, datetime.timedelta,
})  # fmt: skip


class _Fate:
    """Whether the transaction (or savepoint) that a save ran in still holds."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        # Django puts another list in place of this one whenever hooks end or are dropped by a rollback.
        self._hooks: list[Any] | None = connection.run_on_commit
        self._alias = connection.alias
        self.committed = False

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper, last: _Fate | None) -> _Fate:
        """Return the fate of the transaction that is open now; saves in a row share one."""
        if any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
            # A test's transaction never commits, and tests count the hooks that were registered.
            return last if last is not None and last._alias == connection.alias else cls(connection)
        hooks = connection.run_on_commit
        if hooks and isinstance(hooks[-1][1], cls) and hooks[-1][0] == set(connection.savepoint_ids):
            return hooks[-1][1]
        fate = cls(connection)
        transaction.on_commit(fate, using=connection.alias, robust=True)
        return fate

    def __call__(self) -> None:
        self.committed = True
        self._hooks = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Fate:
        return self

    def __reduce__(self) -> Any:
        # Nobody can tell another process how it ended.
        return _unknown_fate, ()

    @property
    def may_be_undone(self) -> bool:
        """It has been rolled back, as far as can be told."""
        return not self.committed and (self._hooks is None or self._hooks is not connections[self._alias].run_on_commit)


def _unknown_fate() -> _Fate:
    fate = _Fate.__new__(_Fate)
    fate._hooks, fate._alias, fate.committed = None, "", False
    return fate


@dataclass(frozen=True, slots=True)
class LoadedValues:
    """An instance's values as its row in one database has them. Never changed: copies of an instance share it."""

    alias: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    #: Of the transaction that ``values`` were saved in, with what was known before it.
    fate: _Fate | None = None
    before: LoadedValues | None = None

    @classmethod
    def of_row(cls, alias: str | None, attnames: Collection[str], values: Collection[Any]) -> LoadedValues:
        """Return a row's values as they come from the database. Called for every instance that is loaded."""
        return cls(
            alias,
            {
                name: value if type(value) in _IMMUTABLE else _kept(value)
                for name, value in zip(attnames, values, strict=True)
            },
        )

    def loaded(self, instance: models.Model, alias: str | None, names: Collection[str] | None = None) -> LoadedValues:
        """Return this with the instance's present values (of these fields), which came from the database."""
        known = self.values if self.alias == alias and names is not None else {}
        return LoadedValues(alias, {**known, **_values(instance, names)}, self.fate, self.before)

    def saved(self, instance: models.Model, alias: str, names: Collection[str] | None = None) -> LoadedValues:
        """Return this with the instance's present values (of these fields), which were just saved."""
        connection = connections[alias]
        certain = self.certain()
        known = certain.values if certain.alias == alias else {}
        now = LoadedValues(alias, {**known, **_values(instance, names)})
        if connection.in_atomic_block:
            fate = _Fate.of(connection, certain.fate)
            return replace(now, fate=fate, before=certain.before if certain.fate is fate else certain)
        # With autocommit switched off by hand nothing tells how the transaction ends.
        return now if connection.get_autocommit() else LoadedValues()

    def certain(self) -> LoadedValues:
        """Return what still holds, now that transactions may have been rolled back."""
        result: LoadedValues = self
        node: LoadedValues | None = self
        while node is not None:
            if node.fate is not None and node.fate.may_be_undone:
                result = node.before or LoadedValues()
            node = node.before
        if result.fate is not None and result.fate.committed:
            result = replace(result, fate=None, before=None)
        return result

    def differs(self, attname: str, value: Any) -> bool:
        """Whether this value of a field is another than the row's, or may be."""
        if attname not in self.values or hasattr(value, "resolve_expression"):
            return True
        before, value = self.values[attname], _plain(value)
        # Not only by ==: 0.0 equals -0.0, True equals 1, and Decimal("1.0") equals Decimal("1").
        return type(before) is not type(value) or before != value or repr(before) != repr(value)


def _values(instance: models.Model, names: Collection[str] | None) -> dict[str, Any]:
    """The instance's values of these fields (all, if None), without deferred ones."""
    return {
        f.attname: _kept(instance.__dict__[f.attname])
        for f in instance._meta.concrete_fields
        if (names is None or f.name in names or f.attname in names) and f.attname in instance.__dict__
    }


def _kept(value: Any) -> Any:
    """A value as it is remembered: changing the instance's must not change it."""
    value = _plain(value)
    return value if type(value) in _IMMUTABLE else copy.deepcopy(value)


def _plain(value: Any) -> Any:
    """A value in the form that is compared."""
    if isinstance(value, models.fields.files.FieldFile):
        return value.name
    if isinstance(value, memoryview):
        return bytes(value)
    return value
