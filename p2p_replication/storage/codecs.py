"""Field values between a database's raw form and the canonical wire form.

Conversions work on what the driver gives and takes, never on Python objects of the model: no user code runs, and a
value that a raw statement put in place of a proper one passes through as it is. The law every codec keeps (and the
tests check): reading what was written for a wire value gives the same wire value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import models

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.foreign_keys import key_of_target, natural_model, target_of

Convert = Callable[[Any], Any]

#: Django's internal types by the name their values have on the wire.
WIRE_TYPES = {
    "CharField": "text",
    "TextField": "text",
    "SlugField": "text",
    "FilePathField": "text",
    "FileField": "text",
    "ImageField": "text",
    "GenericIPAddressField": "text",
    "IPAddressField": "text",
    "IntegerField": "integer",
    "BigIntegerField": "integer",
    "SmallIntegerField": "integer",
    "PositiveIntegerField": "integer",
    "PositiveBigIntegerField": "integer",
    "PositiveSmallIntegerField": "integer",
    "BooleanField": "boolean",
    "FloatField": "float",
    "DecimalField": "decimal",
    "DateField": "date",
    "DateTimeField": "datetime",
    "TimeField": "time",
    "DurationField": "duration",
    "BinaryField": "binary",
    "JSONField": "json",
    "UUIDField": "uuid",
}


@dataclass(frozen=True)
class FieldCodec:
    """How one column travels. ``None`` for a conversion means: as it is."""

    name: str
    column: str
    #: The part of the model's fingerprint that has to agree between replicas.
    wire_type: str
    to_wire: Convert | None
    from_wire: Convert | None
    #: SQL that reads the column ``{}``, for ``to_wire``.
    select: str = "{}"


def wire_type(field: models.Field[Any, Any]) -> str:
    """Return the type of a field on the wire.

    Raises ConfigurationError for a field that cannot travel.
    """
    if (model := natural_model(field)) is not None:
        return f"natural key of {model._meta.label}"
    target = key_of_target(field) or target_of(field)
    if target is not None:
        return f"key of {target.model._meta.label}: {wire_type(target)}"
    internal = field.get_internal_type()
    name = WIRE_TYPES.get(internal)
    if name is None:
        raise ConfigurationError(
            f"{field.model._meta.label}.{field.name} is a {internal}, which can't replicate yet. "
            "Put it into the model's Replication.exclude, or use a built-in kind of field."
        )
    if isinstance(field, models.DecimalField):
        return f"decimal({field.max_digits},{field.decimal_places})"
    return name


def base_field(field: models.Field[Any, Any]) -> models.Field[Any, Any]:
    """Return the field whose values stand in the column: of a foreign key, the field it points at."""
    while (target := target_of(field)) is not None:
        field = target
    return field
