"""What a value may have been before a migration gave its column another type.

Every replica runs the migration, so that nobody has written anything; taken for writes, the conversions of a replica
that migrates late would win over edits made elsewhere since.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_MIDNIGHT = " 00:00:00"
#: Decimal places that are tried, at most.
_PLACES = 12


def earlier_forms(value: Any, kind: str) -> Iterator[Any]:
    """Yield the wire values of other types that stand for the same as this one.

    Args:
        kind: the wire type of the value's field; what is text now was no other text before.
    """
    if kind == "json":
        return
    for form in _forms(value):
        if kind != "text" or not isinstance(form, str):
            yield form


def _forms(value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, bytes):
        if len(value) != 16:
            return
        text = str(uuid.UUID(bytes=value))
        yield uuid.UUID(bytes=value).hex
    elif isinstance(value, (str, int, float)):
        text = str(value)
    else:
        return
    yield text
    if text in ("true", "false"):
        yield text == "true"
        yield int(text == "true")
    elif _DATE.fullmatch(text.removesuffix(_MIDNIGHT)):
        day = text.removesuffix(_MIDNIGHT)
        yield day
        yield day + _MIDNIGHT
    elif len(text) in (32, 36) and (identifier := _uuid(text)):
        yield identifier
    else:
        yield from _numbers(text)


def _numbers(text: str) -> Iterator[Any]:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return
    if not number.is_finite() or abs(number) >= 10**20:
        return
    yield float(number)
    if number in (0, 1):
        yield bool(number)
    if number == int(number):
        yield int(number)
    for places in range(_PLACES + 1):
        if Decimal(form := f"{number:.{places}f}") == number:
            yield form


def _uuid(text: str) -> bytes | None:
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return None
