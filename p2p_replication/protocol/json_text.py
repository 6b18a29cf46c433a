"""The one text that a JSON value has on the wire, whatever database it comes from.

PostgreSQL's ``jsonb`` sorts keys, keeps the last of equal ones and writes numbers out; SQLite keeps the text as it
was written. What both can hold exactly is the value: it travels as text with sorted keys and numbers in one form.
"""

from __future__ import annotations

import json
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from typing import Any

#: More digits than PostgreSQL's numeric has before the point.
MAX_EXPONENT = 131_072


def canonical_json(text: str) -> str:
    """Return the canonical text of a JSON document; of anything else the text itself."""
    try:
        numbers: list[_Number] = []

        def number(digits: str) -> _Number:
            numbers.append(_Number(digits))
            return numbers[-1]

        value = json.loads(text, parse_float=number, parse_constant=_refuse)
        return _dump(value) if numbers else json.dumps(value, sort_keys=True)
    except (ValueError, RecursionError, ArithmeticError):
        return text


def list_items(text: str) -> list[str]:
    """Return the items of a JSON list, each as canonical text; anything else is the one item of a list."""
    try:
        value = json.loads(text, parse_float=_Number, parse_constant=_refuse)
        return [_dump(item) for item in value] if type(value) is list else [_dump(value)]
    except (ValueError, RecursionError, ArithmeticError):
        return [json.dumps(text)]


class _Number:
    """A number with a fraction or an exponent, digit by digit."""

    __slots__ = ("text",)

    def __init__(self, digits: str) -> None:
        number = Decimal(digits)
        if abs(number.adjusted()) > MAX_EXPONENT:
            raise ValueError("a number out of every database's range")
        # As few characters as can be; but 1e2 becomes 100, as jsonb makes an integer of it.
        text = format(number, "f") if int(number.as_tuple().exponent) > 0 else str(number)
        self.text = text.removeprefix("-") if number.is_zero() else text


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _dump(value: Any) -> str:
    if type(value) is _Number:
        return value.text
    if type(value) is str:
        return str(encode_basestring_ascii(value))
    if type(value) is dict:
        return "{" + ", ".join(f"{encode_basestring_ascii(key)}: {_dump(value[key])}" for key in sorted(value)) + "}"
    if type(value) is list:
        return "[" + ", ".join(map(_dump, value)) + "]"
    return json.dumps(value)
