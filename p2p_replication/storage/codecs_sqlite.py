"""Codecs for SQLite, whose columns hold whatever was written: only Django's own forms are converted."""

from __future__ import annotations

import decimal
import math
from typing import Any

from django.db import models

from p2p_replication.protocol.json_text import canonical_json
from p2p_replication.storage.codecs import Convert, FieldCodec, base_field, wire_type

#: Begins a raw value that would be taken for another one on the wire.
_ODD = "\x00"
_ODD_BLOB = _ODD + "blob:"
_ODD_TEXT = _ODD + "text:"


def codec_for(field: models.Field[Any, Any]) -> FieldCodec:
    kind = wire_type(field)
    target = base_field(field)
    to_wire, from_wire = _conversions(target, wire_type(target))
    column = field.column
    assert column is not None
    # The unary plus keeps the driver from converting by the declared type.
    return FieldCodec(field.name, column, kind, to_wire, from_wire, "+{}")


def _conversions(field: models.Field[Any, Any], kind: str) -> tuple[Convert | None, Convert | None]:
    if kind == "uuid":
        return _uuid_to_wire, _uuid_from_wire
    if kind == "boolean":
        return _boolean_to_wire, _boolean_from_wire
    if isinstance(field, models.DecimalField):
        return _decimal_to_wire(field), None
    if kind == "json":
        return _json_to_wire, None
    if kind == "float":
        return None, _float_from_wire
    # Text, integers, bytes, microseconds, dates and times as the text that Django writes (aware
    # ones in UTC): as they are.
    return None, None


def _uuid_to_wire(raw: Any) -> Any:
    """A UUID is 16 bytes on the wire; a blob or an odd text that a raw statement wrote is marked as such."""
    if type(raw) is str:
        if len(raw) == 32:
            try:
                packed = bytes.fromhex(raw)
            except ValueError:
                return raw
            if packed.hex() == raw:
                return packed
        return _ODD_TEXT + raw if raw.startswith(_ODD) else raw
    return _ODD_BLOB + raw.hex() if type(raw) is bytes else raw


def _uuid_from_wire(value: Any) -> Any:
    if type(value) is bytes:
        if len(value) != 16:
            raise ValueError(f"{value!r} is no UUID")
        return value.hex()
    if type(value) is str and value.startswith(_ODD):
        if value.startswith(_ODD_BLOB):
            return bytes.fromhex(value[len(_ODD_BLOB) :])
        return value[len(_ODD_TEXT) :]
    return value


def _boolean_to_wire(raw: Any) -> Any:
    return bool(raw) if type(raw) is int and raw in (0, 1) else raw


def _boolean_from_wire(value: Any) -> Any:
    return int(value) if type(value) is bool else value


def _json_to_wire(raw: Any) -> Any:
    return canonical_json(raw) if type(raw) is str else raw


def _float_from_wire(value: Any) -> Any:
    if type(value) is float and math.isnan(value):
        raise ValueError("SQLite has no NaN: it would become NULL")
    return value


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
