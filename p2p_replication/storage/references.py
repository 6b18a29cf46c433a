"""Foreign keys whose column holds a number that means something in this database only.

They travel by what all replicas know the target by: its key, or its natural key if its model does not replicate.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist, ValidationError
from django.db import DatabaseError, IntegrityError, models
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.foreign_keys import key_of_target, natural_key_text, natural_model
from p2p_replication.storage.codecs import FieldCodec, wire_type
from p2p_replication.storage.ledger import chunks, marks
from p2p_replication.storage.vendors import vendor_of

logger = logging.getLogger("p2p_replication.storage")

#: Primary keys that rows get in this transaction, by table and key: they may be referred to before they are inserted.
NewKeys = Mapping[str, Mapping[str, Any]]


class KeyReference:
    """A foreign key to a replicated model whose key is not its primary key."""

    #: A row whose target is not there has to wait.
    optional = False

    def __init__(
        self, connection: BaseDatabaseWrapper, field: models.ForeignKey[Any, Any], key: models.Field[Any, Any]
    ) -> None:
        target = field.target_field
        vendor = vendor_of(connection)
        self._connection = connection
        self.name = field.name
        self.label = key.model._meta.label
        self.table = _quoted(connection, key.model._meta.db_table)
        self.key_column = _quoted(connection, key.column)
        self.column = _quoted(connection, target.column)
        #: How the target's key travels.
        self.key = vendor.codec_for(key)
        self._key_text = vendor.key_text(self.key_column)
        found = self.key.select.format(f"referred.{self.key_column}")
        self.codec = FieldCodec(
            field.name,
            str(field.column),
            wire_type(field),
            self.key.to_wire,
            None,
            f"(SELECT {found} FROM {self.table} referred WHERE referred.{self.column} = {{}})",
        )

    def key_text(self, value: Any) -> str:
        """Return the target's key as the ledger has it. Raises ValueError for a value that can be none."""
        key = self.key.from_wire(value) if self.key.from_wire else value
        if not isinstance(key, str):
            raise ValueError(f"{value!r} is no key of {self.label}, whose keys are {self.key.wire_type}")
        return key

    def find(self, values: Collection[Any], new: NewKeys) -> dict[Any, Any]:
        """Return what the column holds for these wire values, without those whose target is not there."""
        wanted = {self.key_text(value): value for value in values}
        coming = new.get(self.table, {})
        found = {value: coming[key] for key, value in wanted.items() if key in coming}
        with self._connection.cursor() as cursor:
            for chunk in chunks(list(wanted)):
                cursor.execute(
                    f"SELECT {self._key_text}, {self.column} FROM {self.table} "
                    f"WHERE {self.key_column} IN ({marks(len(chunk))})",
                    list(chunk),
                )
                found.update({wanted[str(key)]: local for key, local in cursor.fetchall()})
        return found


class NaturalReference:
    """A foreign key to a model that does not replicate: it travels as the JSON list of the target's natural key.

    The project's own ``natural_key()`` and ``get_by_natural_key()`` are called, as Django's serializers do.
    """

    def __init__(
        self, connection: BaseDatabaseWrapper, field: models.ForeignKey[Any, Any], model: type[models.Model]
    ) -> None:
        self._connection = connection
        self._target = field.target_field
        self._model = model
        self.name = field.name
        self.label = model._meta.label
        #: The rest of a row need not wait for the target.
        self.optional = field.null
        self._texts: dict[Any, str | None] = {}
        self.codec = FieldCodec(field.name, str(field.column), wire_type(field), self._to_wire, None)

    def prepare(self, raws: Collection[Any]) -> None:
        """Look up the natural keys of what these columns hold, all at once: rows are converted one by one."""
        self._texts = dict.fromkeys(raws)
        for chunk in chunks(list(self._texts)):
            for target in self._targets(chunk):
                self._texts[self._local(target)] = self._text(target)

    def find(self, values: Collection[Any], new: NewKeys) -> dict[Any, Any]:
        """Return what the column holds for these wire values, without those whose target is not there.

        Raises ValueError for a value that can be no natural key of the model.
        """
        manager: Any = self._model._default_manager.db_manager(self._connection.alias)
        if hasattr(manager, "clear_cache"):
            manager.clear_cache()  # Content types have other numbers after a flush.
        found = {}
        for value in values:
            target = self._get(manager, value)
            # A lookup that takes other spellings, too, must not give the value a second form.
            if target is not None and self._text(target) == value:
                found[value] = self._local(target)
        return found

    def _get(self, manager: Any, value: Any) -> models.Model | None:
        try:
            parts = json.loads(value)
            if type(parts) is not list:
                raise TypeError("it is no list")
            target: models.Model = manager.get_by_natural_key(*parts)
            return target
        except (ObjectDoesNotExist, MultipleObjectsReturned):
            return None
        except DatabaseError:
            raise
        except Exception as error:
            raise ValueError(f"{value!r} is no natural key of {self.label}: {error}") from error

    def _targets(self, raws: Sequence[Any]) -> Iterable[models.Model]:
        every = self._model._base_manager.using(self._connection.alias)
        try:
            return list(every.filter(**{f"{self._target.attname}__in": raws}))
        except (ValueError, TypeError, ValidationError):
            # SQLite holds anything; the others are none the worse for it.
            return [t for raw in raws for t in self._targets([raw])] if len(raws) > 1 else []

    def _local(self, target: models.Model) -> Any:
        return self._target.get_db_prep_save(getattr(target, self._target.attname), self._connection)

    def _text(self, target: Any) -> str | None:
        try:
            return natural_key_text(target.natural_key())
        except DatabaseError:
            raise
        except Exception:
            logger.exception("%s %s has no natural key: references to it travel as null", self.label, target.pk)
            return None

    def _to_wire(self, raw: Any) -> str | None:
        if raw not in self._texts:
            self.prepare([raw])
        return self._texts[raw]


class References:
    """The foreign keys of one model that have to be translated."""

    def __init__(self, connection: BaseDatabaseWrapper, fields: Iterable[models.Field[Any, Any]]) -> None:
        self.by_key: dict[str, KeyReference] = {}
        self.natural: dict[str, NaturalReference] = {}
        for field in fields:
            if not isinstance(field, models.ForeignKey):
                continue
            if (key := key_of_target(field)) is not None:
                self.by_key[field.name] = KeyReference(connection, field, key)
            elif (model := natural_model(field)) is not None:
                self.natural[field.name] = NaturalReference(connection, field, model)
        self._all: dict[str, KeyReference | NaturalReference] = {**self.by_key, **self.natural}

    def codec(self, name: str) -> FieldCodec | None:
        """Return how a field travels, None if it is none of these."""
        return self._all[name].codec if name in self._all else None

    def prepare(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Get ready to convert raw rows, whose fields are ``names``, into wire form."""
        for name, reference in self.natural.items():
            i = names.index(name)
            reference.prepare({row[i] for row in rows if row[i] is not None})

    def as_far_as_known(self, values: Mapping[str, Any]) -> tuple[Mapping[str, Any], frozenset[str]]:
        """Return a row's wire values with what the columns hold in place of what travels; and the fields whose target
        is not there, which have null.
        """
        found = dict(values)
        for name in self._all.keys() & values.keys():
            if values[name] is not None:
                found[name] = self._all[name].find([values[name]], {}).get(values[name])
        return found, frozenset(name for name in found if found[name] is None and values[name] is not None)

    def localized(
        self, rows: Mapping[str, Mapping[str, Any]], new: NewKeys
    ) -> tuple[Mapping[str, Mapping[str, Any]], dict[str, frozenset[str]]]:
        """Return rows (wire values, by key) with what the columns hold in place of what travels; and, by key, the
        fields that are null for now, as their target is not there yet.

        Raises IntegrityError if a target is not there that a row can't do without.
        """
        if not self._all or not rows:
            return rows, {}
        found = {
            name: reference.find({v for values in rows.values() if (v := values.get(name)) is not None}, new)
            for name, reference in self._all.items()
        }
        local: dict[str, Mapping[str, Any]] = {}
        awaited: dict[str, frozenset[str]] = {}
        for key, values in rows.items():
            local[key] = changed = dict(values)
            for name in self._all.keys() & values.keys():
                if values[name] is None:
                    continue
                changed[name] = found[name].get(values[name])
                if changed[name] is None:
                    reference = self._all[name]
                    if not reference.optional:
                        raise IntegrityError(
                            f"{reference.label} {values[name]!r}, to which {name} refers, is not there"
                        )
                    awaited[key] = awaited.get(key, frozenset()) | {name}
        return local, awaited


def _quoted(connection: BaseDatabaseWrapper, name: str | None) -> str:
    """Return a quoted name for SQL that has parameters, in which a percent sign is doubled."""
    return connection.ops.quote_name(name or "").replace("%", "%%")
