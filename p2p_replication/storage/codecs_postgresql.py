"""Codecs for PostgreSQL, whose columns have types: a value that a column would change is refused, never bent.

Dates, times, numbers and JSON are read as the server's own text, so that a value that Python has no object for (the
year 10000, infinity) passes through as well.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import models

from p2p_replication.protocol.json_text import canonical_json
from p2p_replication.storage.codecs import Convert, FieldCodec, base_field, wire_type

_DAY = r"\d{4,6}-\d\d-\d\d"
_CLOCK = r"\d\d:\d\d:\d\d(\.(?!000000)\d{6})?"
_ENDLESS = {"infinity", "-infinity"}
_DATE = re.compile(rf"{_DAY}( BC)?")
_TIME = re.compile(_CLOCK)
_DATETIME = re.compile(rf"({_DAY} {_CLOCK})( BC)?")
_FRACTION = re.compile(r"\.\d+")
_DAY_MICROSECONDS = 86_400_000_000


def codec_for(field: models.Field[Any, Any]) -> FieldCodec:
    kind = wire_type(field)
    target = base_field(field)
    select, to_wire, from_wire = _conversions(target, wire_type(target))
    column = field.column
    assert column is not None
    return FieldCodec(field.name, column, kind, to_wire, from_wire, select)


def _conversions(field: models.Field[Any, Any], kind: str) -> tuple[str, Convert | None, Convert | None]:
    """Return the SQL that reads a column (``{}``), and the conversions of what it gives."""
    match kind:
        case "uuid":
            return "{}", _uuid_to_wire, _uuid_from_wire
        case "text" if field.get_internal_type() in ("GenericIPAddressField", "IPAddressField"):
            return "host({})", None, _address_from_wire
        case "text":
            return "{}", None, _text_from_wire(field)
        case "integer" | "boolean":
            return "{}", None, _exactly(int if kind == "integer" else bool)
        case "float":
            return "{}", None, _float_from_wire
        case "binary":
            return "{}", bytes, _exactly(bytes)
        case "date":
            return "{}::text", None, _matching("date", _DATE)
        case "time":
            return "{}::text", _with_microseconds, _matching("time", _TIME)
        case "datetime":
            return _datetime_select(), _with_microseconds, _datetime_from_wire
        case "duration":
            return "(EXTRACT(EPOCH FROM {}) * 1000000)::bigint", None, _duration_from_wire
        case "json":
            return "{}::text", canonical_json, _exactly(str)
        case _:
            assert isinstance(field, models.DecimalField)
            return "{}::text", None, _decimal_from_wire(field)


def _exactly(kind: type) -> Convert:
    def from_wire(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"{value!r} is no {kind.__name__}, which the column takes")
        return value

    return from_wire


def _float_from_wire(value: Any) -> str:
    """As text: a literal would lose the sign of a zero."""
    if type(value) is not float:
        raise ValueError(f"{value!r} is no float, which the column takes")
    return repr(value)


def _uuid_to_wire(raw: Any) -> bytes:
    """A key comes as the ledger's text."""
    return bytes(raw.bytes) if type(raw) is uuid.UUID else uuid.UUID(raw).bytes


def _uuid_from_wire(value: Any) -> str:
    if type(value) is not bytes or len(value) != 16:
        raise ValueError(f"{value!r} is no UUID")
    return str(uuid.UUID(bytes=value))


def _text_from_wire(field: models.Field[Any, Any]) -> Convert:
    limit = None if field.get_internal_type() == "TextField" else field.max_length

    def from_wire(value: Any) -> Any:
        if type(value) is not str:
            raise ValueError(f"{value!r} is no text")
        # The server itself would cut off spaces beyond the limit without a word.
        if limit is not None and len(value) > limit:
            raise ValueError(f"a text of {len(value)} characters; the column takes {limit}")
        return value

    return from_wire


def _address_from_wire(value: Any) -> Any:
    if type(value) is not str:
        raise ValueError(f"{value!r} is no IP address")
    address = ipaddress.ip_address(value)
    mapped = getattr(address, "ipv4_mapped", None)
    if value not in (str(address), f"::ffff:{mapped}"):
        raise ValueError(f"{value!r} is not the plain form of the IP address {address}")
    return value


def _with_microseconds(raw: str) -> str:
    """Write a fraction with all six digits, as Django does."""
    return _FRACTION.sub(lambda match: match[0].ljust(7, "0"), raw, count=1) if "." in raw else raw


def _matching(what: str, pattern: re.Pattern[str]) -> Convert:
    def from_wire(value: Any) -> Any:
        if type(value) is not str or not (pattern.fullmatch(value) or (what == "date" and value in _ENDLESS)):
            raise ValueError(f"{value!r} is no {what} in the form that Django writes")
        return value

    return from_wire


def _datetime_select() -> str:
    """Aware ones travel in UTC, naive ones as they are: as Django writes them on SQLite."""
    return "({} AT TIME ZONE 'UTC')::text" if settings.USE_TZ else "{}::timestamp::text"


def _datetime_from_wire(value: Any) -> Any:
    if type(value) is str:
        if value in _ENDLESS:
            return value
        match = _DATETIME.fullmatch(value)
        if match:
            return f"{match[1]}{'+00' if settings.USE_TZ else ''}{match[3] or ''}"
    raise ValueError(f"{value!r} is no date and time in the form that Django writes")


def _duration_from_wire(value: Any) -> Any:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no number of microseconds")
    days, rest = divmod(value, _DAY_MICROSECONDS)  # As Django writes it: a negative one as -1 day and some hours.
    return f"{days} days {rest} microseconds"


def _decimal_from_wire(field: models.DecimalField[Any, Any]) -> Callable[[Any], Any]:
    places = field.decimal_places or 0
    pattern = re.compile(r"-?\d+" + (rf"\.\d{{{places}}}" if places else ""))

    def from_wire(value: Any) -> Any:
        # The server itself would round to the column's places.
        if type(value) is not str or not (pattern.fullmatch(value) or value == "NaN"):
            raise ValueError(f"{value!r} is no number with {places} decimal places")
        return value

    return from_wire
