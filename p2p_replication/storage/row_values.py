"""A row's wire values as a project's own functions see them: a dict of Python values, and back."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import models

from p2p_replication.models.foreign_keys import key_of_target, natural_key_text, natural_model, traveling_field
from p2p_replication.storage.capture.reconciliation import stored_form
from p2p_replication.storage.codecs import base_field
from p2p_replication.storage.codecs import wire_type as wire_type_of
from p2p_replication.storage.table import ModelTable

_MICROSECOND = datetime.timedelta(microseconds=1)


def python_row(table: ModelTable, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row by attribute names, as ``QuerySet.values()`` has it; fields that the table lacks are left out.

    What is known by another field than its primary key has that: a row has no ``id`` then, and a foreign key the value
    of the key that it points at. A foreign key by natural key has that as a list.
    """
    key_field = table.options.key_field
    row = {key_field.attname: base_field(key_field).to_python(key)}
    for name, value in values.items():
        if name in table.codecs:
            field = _field(table, name)
            row[field.attname] = _to_python(field, value, table)
    return row


def wire_values(
    table: ModelTable, before: Mapping[str, Any], after: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the wire values of a row that was ``before`` and has been changed to ``after``.

    Args:
        values: the wire values of ``before``. Those of fields that the table lacks stay.

    Raises ValueError (or what a field raises) for a row that can't be stored.
    """
    key = table.options.key_field.attname
    names = {_field(table, name).attname: name for name in table.codecs}
    if unknown := after.keys() - names.keys() - {key}:
        raise ValueError(f"{', '.join(sorted(map(str, unknown)))}: no field of the row; there is: {', '.join(names)}")
    if after.get(key, before[key]) != before[key]:
        raise ValueError("the key of a row can't be changed")
    changed = {name: value for name, value in values.items() if name not in table.codecs}
    for attname, value in after.items():
        if attname == key:
            continue
        name = names[attname]
        if attname in before and type(before[attname]) is type(value) and before[attname] == value:
            changed[name] = values[name]
        else:
            changed[name] = None if value is None else _to_wire(table, name, value)
    return changed


def _field(table: ModelTable, name: str) -> models.Field[Any, Any]:
    field = table.options.model._meta.get_field(name)
    assert isinstance(field, models.Field)
    return field


def _to_wire(table: ModelTable, name: str, value: Any) -> Any:
    field = _field(table, name)
    if natural_model(field) is not None:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} is {value!r}: give a natural key as a list")
        return natural_key_text(value)
    if (key := key_of_target(field)) is not None:
        raw = str(key.get_db_prep_save(value, table.connection))
        codec = table.references.by_key[name].key
        return codec.to_wire(raw) if codec.to_wire else raw
    raw = field.get_db_prep_save(value, table.connection)
    return None if raw is None else stored_form(table.connection, table, name, "%s", [raw])


def _to_python(field: models.Field[Any, Any], value: Any, table: ModelTable) -> Any:
    """Convert one wire value. What is no proper value of the field (a raw statement's) stays as it is."""
    if value is None:
        return None
    try:
        if natural_model(field) is not None:
            return json.loads(value)
        field = traveling_field(field)
        value = _proper(wire_type_of(field).partition("(")[0], value)
        own = getattr(field, "from_db_value", None)
        return own(value, None, table.connection) if own is not None else value
    except (ValueError, TypeError, decimal.InvalidOperation):
        return value


def _proper(kind: str, value: Any) -> Any:
    match kind:
        case "uuid":
            return uuid.UUID(bytes=value) if type(value) is bytes else value
        case "decimal":
            return decimal.Decimal(value)
        case "date":
            return datetime.date.fromisoformat(value)
        case "time":
            return datetime.time.fromisoformat(value)
        case "datetime":
            moment = datetime.datetime.fromisoformat(value)
            return moment.replace(tzinfo=datetime.UTC) if settings.USE_TZ else moment
        case "duration":
            return value * _MICROSECOND
    return value
