"""Codecs for SQLite, whose columns hold whatever was written: only Django's own forms are converted."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

from django.conf import settings
from django.db import models

from p2p_replication.storage.codecs import Convert, FieldCodec, base_field, wire_type

_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)


def codec_for(field: models.Field[Any, Any]) -> FieldCodec:
    kind = wire_type(field)
    target = base_field(field)
    to_wire, from_wire = _conversions(target, wire_type(target))
    column = field.column
    assert column is not None
    return FieldCodec(field.name, column, kind, to_wire, from_wire)


def _conversions(field: models.Field[Any, Any], kind: str) -> tuple[Convert | None, Convert | None]:
    if kind == "uuid":
        return _uuid_to_wire, _uuid_from_wire
    if kind == "boolean":
        return _boolean_to_wire, _boolean_from_wire
    if kind == "datetime" and settings.USE_TZ:
        return _datetime_to_wire, _datetime_from_wire
    if isinstance(field, models.DecimalField):
        return _decimal_to_wire(field), None
    # Text, integers, floats, bytes, JSON text, ISO dates and times, microseconds: as they are.
    return None, None


def _uuid_to_wire(raw: Any) -> Any:
    if type(raw) is str and len(raw) == 32:
        try:
            packed = bytes.fromhex(raw)
        except ValueError:
            return raw
        if len(packed) == 16 and packed.hex() == raw:
            return packed
    return raw


def _uuid_from_wire(value: Any) -> Any:
    return value.hex() if type(value) is bytes and len(value) == 16 else value


def _boolean_to_wire(raw: Any) -> Any:
    return bool(raw) if type(raw) is int and raw in (0, 1) else raw


def _boolean_from_wire(value: Any) -> Any:
    return int(value) if type(value) is bool else value


def _datetime_to_wire(raw: Any) -> Any:
    """Microseconds since the epoch, where the text is the one Django writes for an aware datetime."""
    if type(raw) is not str:
        return raw
    try:
        moment = datetime.datetime.fromisoformat(raw)
    except ValueError:
        return raw
    if moment.tzinfo is not None or str(moment) != raw:
        return raw
    return (moment - _EPOCH) // _MICROSECOND


def _datetime_from_wire(value: Any) -> Any:
    if type(value) is not int:
        return value
    try:
        return str(_EPOCH + value * _MICROSECOND)
    except OverflowError as error:
        raise ValueError(f"{value} microseconds since 1970 is no date that Python knows") from error


def _decimal_to_wire(field: models.DecimalField[Any, Any]) -> Convert:
    """SQLite keeps decimals as REAL or INTEGER: the wire has the text with the field's number of places."""
    places = field.decimal_places or 0
    context = decimal.Context(prec=max(field.max_digits or 0, 15))
    quantum = decimal.Decimal(1).scaleb(-places)

    def to_wire(raw: Any) -> Any:
        if type(raw) is not int and type(raw) is not float:
            return raw
        try:
            number = context.create_decimal_from_float(raw) if type(raw) is float else decimal.Decimal(raw)
            text = format(number.quantize(quantum, context=context), "f")
        except decimal.InvalidOperation:
            return raw
        # A number with more digits than the field has (a raw statement's) must not lose them.
        return text if float(text) == raw else raw

    return to_wire
