"""``where=`` of a declaration: Django lookups become the canonical text of a filter, or are refused with a reason."""

from __future__ import annotations

import datetime
import hashlib
import logging
import math
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.utils import timezone

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.foreign_keys import key_of_target, natural_key_text, natural_model, traveling_field
from p2p_replication.models.pool import Declaration
from p2p_replication.protocol.row_filter import LOOKUPS, Condition, RowFilter
from p2p_replication.registry import Options

logger = logging.getLogger("p2p_replication.models")

#: Characters of the canonical text, which travels with every introduction.
MAX_LENGTH = 16_000

#: What a filter compares, by the kind of field whose values stand in the column.
_KINDS = {
    **dict.fromkeys(("CharField", "TextField", "SlugField", "FilePathField", "FileField", "ImageField"), "text"),
    **dict.fromkeys(("GenericIPAddressField", "IPAddressField"), "text"),
    **dict.fromkeys(("IntegerField", "BigIntegerField", "SmallIntegerField"), "integer"),
    **dict.fromkeys(("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField"), "integer"),
    "BooleanField": "boolean",
    "FloatField": "float",
    "DecimalField": "decimal",
    "DateField": "date",
    "DateTimeField": "datetime",
    "TimeField": "time",
    "DurationField": "duration",
    "UUIDField": "uuid",
}


def canonical_where(options: Options, where: Mapping[str, Any] | None) -> str:
    """Return the canonical text of a filter, empty if there is none.

    Raises ConfigurationError for what can't decide alike on all replicas; the text says what may be used.
    """
    if not where:
        return ""
    if not isinstance(where, Mapping):
        raise ConfigurationError(f"where={where!r}: give a dict of lookups, as {{'stars__gte': 3}}.")
    text = RowFilter(tuple(_condition(options, name, value) for name, value in where.items())).text
    if len(text) > MAX_LENGTH:
        raise ConfigurationError(
            f"where: the filter has {len(text)} characters, {MAX_LENGTH} are the most. Give the rows a field that says "
            "to which subset they belong, and filter by that."
        )
    return text


def filter_digest(text: str) -> str:
    """Return what ``Declaration.filter_digest`` has for a filter's canonical text."""
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def filter_columns(label: str, text: str, using: str | None = None) -> dict[str, Any]:
    """Return the columns of a declaration that say which filter it has, for one that begins with it."""
    digest = filter_digest(text)
    others = Declaration.objects.using(using).filter(model=label).exclude(filter_digest=digest)
    since = timezone.now() if others.exists() else None
    return {"where": text or {}, "filter_digest": digest, "takes_over_since": since}


def change_filter(declaration: Declaration, text: str) -> None:
    """Give a declaration another filter, inside a transaction. What was taken before says nothing of the new subset."""
    logger.info("%s has another filter: %s, before: %s", declaration, text or "none", declaration.filter_text or "none")
    using = declaration._state.db
    columns = {**filter_columns(declaration.model, text, using), "takes_over_since": timezone.now()}
    Declaration.objects.using(using).filter(pk=declaration.pk).update(vector={}, **columns)
    declaration.cursors.all().delete()
    declaration.progress.all().delete()


def _condition(options: Options, name: str, value: Any) -> Condition:
    field, lookup = _field_and_lookup(options, name)
    said = f"where: {name}={value!r}"
    if field.name in options.merge:
        raise ConfigurationError(
            f"{said}: {options.label}.{field.name} has a declared merge: concurrent edits make values of it that "
            "nobody wrote. Filter by another field."
        )
    if lookup == "isnull" or (lookup == "exact" and value is None):
        if value is not None and not isinstance(value, bool):
            raise ConfigurationError(f"{said}: isnull takes True or False.")
        return Condition(field.name, "isnull", "", value is None or value)
    base = traveling_field(field)
    kind = _KINDS.get(base.get_internal_type())
    takes = (*LOOKUPS.get(kind or "", ()), "isnull")
    if natural_model(field) is not None:
        kind, takes = "text", ("exact", "in", "isnull")
    if lookup not in takes:
        raise ConfigurationError(
            f"{said}: {options.label}.{field.name} takes {', '.join(takes)} in a filter: only what every database "
            "decides alike."
        )
    assert kind is not None
    if lookup != "in":
        return Condition(field.name, lookup, kind, _operand(said, field, base, kind, value))
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise ConfigurationError(f"{said}: in takes a list of values.")
    members = {_operand(said, field, base, kind, member) for member in value}
    if not members:
        raise ConfigurationError(f"{said}: no row is in an empty list.")
    return Condition(field.name, "in", kind, sorted(members))


def _field_and_lookup(options: Options, name: str) -> tuple[models.Field[Any, Any], str]:
    parts = str(name).split("__")
    model = options.model
    own = {key: f for f in options.fields() for key in (f.name, f.attname)}
    field = own.get(parts[0])
    if field is None:
        try:
            there = model._meta.get_field(parts[0]) if parts[0] != "pk" else model._meta.pk
        except FieldDoesNotExist:
            there = None
        why = "is no field of it"
        if there is not None and not getattr(there, "concrete", False):
            why = "leads to other rows"
        elif there is not None:
            why = "is its key" if there == options.key_field else "does not travel"
        names = ", ".join(f.name for f in options.fields())
        raise ConfigurationError(
            f"where: {name}: {parts[0]} {why}, so {options.label} can't be filtered by it. Its fields are: {names}."
        )
    if len(parts) > 2 or (len(parts) == 2 and field.remote_field is not None and parts[1] not in _ALL_LOOKUPS):
        raise ConfigurationError(
            f"where: {name}: a filter looks at the row itself, not at other rows or at parts of a value. Copy what "
            f"decides into a field of {options.label}, and filter by that."
        )
    return field, parts[1] if len(parts) == 2 else "exact"


_ALL_LOOKUPS = {"isnull", *(lookup for lookups in LOOKUPS.values() for lookup in lookups)}


def _operand(said: str, field: models.Field[Any, Any], base: models.Field[Any, Any], kind: str, value: Any) -> Any:
    """Return a value in the form that it has in the canonical text."""
    while isinstance(value, models.Model):
        related = field.related_model if field.remote_field is not None else None
        if not isinstance(related, type) or not isinstance(value, related):
            raise ConfigurationError(f"{said}: {field.name} does not refer to a {type(value).__name__}.")
        if natural_model(field) is not None:
            return natural_key_text(value.natural_key())  # type: ignore[attr-defined]
        at: Any = field
        while at.remote_field is not None and isinstance(value, models.Model):
            at = key_of_target(at) or at.target_field
            value = getattr(value, at.attname)
    if natural_model(field) is not None and value is not None:
        return _natural(said, value)
    if isinstance(value, int) and key_of_target(field) is not None:
        raise ConfigurationError(f"{said}: {value} is a number of this database; give the object, or its {base.name}.")
    if value is None:
        raise ConfigurationError(f"{said}: there is no value to compare with; rows without one are found by isnull.")
    try:
        if kind == "datetime":
            _check_time_zone(said, value)
        if kind == "integer" and isinstance(value, float | Decimal) and value != int(value):
            raise ValueError("it is no integer")
        return _plain(kind, base.get_prep_value(value))
    except (TypeError, ValueError, ArithmeticError, ValidationError, AttributeError) as error:
        raise ConfigurationError(
            f"{said}: {value!r} is no value of a {type(base).__name__}, which {field.name} has."
        ) from error


def _natural(said: str, value: Any) -> str:
    if not isinstance(value, list | tuple):
        raise ConfigurationError(f"{said}: give the object, or its natural key as a list.")
    return natural_key_text(value)


def _check_time_zone(said: str, value: Any) -> None:
    if not isinstance(value, datetime.datetime):
        raise ConfigurationError(f"{said}: give a datetime.")
    if (value.tzinfo is not None) is not settings.USE_TZ:
        wanted = "with a time zone, as USE_TZ is on" if settings.USE_TZ else "without a time zone, as USE_TZ is off"
        raise ConfigurationError(f"{said}: give a datetime {wanted}.")


def _plain(kind: str, value: Any) -> Any:
    match kind:
        case "text":
            return str(value)
        case "integer":
            return int(value)
        case "boolean":
            if not isinstance(value, bool):
                raise ValueError("it is no boolean")
            return value
        case "float":
            number = float(value) + 0.0
            if not math.isfinite(number):
                raise ValueError("it is no finite number")
            return number
        case "decimal":
            exact = Decimal(value)
            if not exact.is_finite():
                raise ValueError("it is no finite number")
            text = format(exact, "f")
            text = text.rstrip("0").rstrip(".") if "." in text else text
            return "0" if text == "-0" else text
        case "uuid":
            return uuid.UUID(str(value)).hex
        case "duration":
            if not isinstance(value, datetime.timedelta):
                raise ValueError("it is no timedelta")
            return value // datetime.timedelta(microseconds=1)
        case "datetime":
            in_utc = value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value
            return str(in_utc)
        case _:
            if kind == "time" and value.tzinfo is not None:
                raise ValueError("a time of day has no time zone")
            return str(value)
