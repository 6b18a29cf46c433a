"""Which rows a pool is about: the canonical text of a filter, and whether a row's wire values match it.

A row is compared by its canonical wire values and never by a database, so that every replica decides alike, whatever
its database and collation.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, NamedTuple

from p2p_replication.protocol.row_state import DELETE, RowState

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "exact": operator.eq,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "startswith": lambda value, start: bool(value.startswith(start)),
    "contains": operator.contains,
}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d\d:\d\d:\d\d(\.\d{6})?")
_DATETIME = re.compile(rf"{_DATE.pattern} {_TIME.pattern}")


class Condition(NamedTuple):
    """One lookup. ``kind`` says what the operand is; of ``isnull`` it is empty."""

    field: str
    lookup: str
    kind: str
    operand: Any

    def __str__(self) -> str:
        name = self.field if self.lookup == "exact" else f"{self.field}__{self.lookup}"
        return f"{name}={self.operand!r}"


@dataclass(frozen=True)
class RowFilter:
    """Conditions that all have to hold. Equal filters have equal texts."""

    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, text: str) -> RowFilter:
        """Read a canonical text of this replica's own."""
        return cls(tuple(Condition(*parts) for parts in json.loads(text)))

    @cached_property
    def text(self) -> str:
        """The canonical text."""
        return json.dumps(sorted(self.conditions, key=json.dumps), separators=(",", ":"))

    @cached_property
    def fields(self) -> frozenset[str]:
        return frozenset(condition.field for condition in self.conditions)

    @cached_property
    def _tests(self) -> list[tuple[str, Callable[[Any], bool]]]:
        return [(condition.field, _test(condition)) for condition in self.conditions]

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Tell whether a row with these wire values matches. A field that is not there matches nothing."""
        return all(name in values and test(values[name]) for name, test in self._tests)

    def unmet(self, values: Mapping[str, Any]) -> list[Condition]:
        """Return the conditions that do not hold."""
        return [
            condition
            for condition, (name, test) in zip(self.conditions, self._tests, strict=True)
            if name not in values or not test(values[name])
        ]

    def retraction(self, state: RowState) -> RowState:
        """Return what peers are told of a row that has left: the fields of the filter, and no others."""
        fields = {name: field for name, field in state.fields().items() if name in self.fields}
        past = {name: seen for name, seen in state.past.items() if name in self.fields or name == DELETE}
        return RowState.of(state.inserted, state.deleted, fields, past)

    def is_retraction(self, state: RowState) -> bool:
        """Tell whether a state of a row that does not match can be a retraction."""
        return state.values.keys() <= self.fields

    def __str__(self) -> str:
        return ", ".join(map(str, self.conditions))


def _test(condition: Condition) -> Callable[[Any], bool]:
    wanted = condition.operand
    if condition.lookup == "isnull":
        return lambda value: (value is None) is wanted
    read = _READERS[condition.kind]
    if condition.lookup == "in":
        members = frozenset(map(_operand(condition.kind), wanted))
        return lambda value: read(value) in members
    compare, limit = _COMPARISONS[condition.lookup], _operand(condition.kind)(wanted)

    def test(value: Any) -> bool:
        comparable = read(value)
        return comparable is not None and compare(comparable, limit)

    return test


def _operand(kind: str) -> Callable[[Any], Any]:
    return bytes.fromhex if kind == "uuid" else _READERS[kind]


def _of_type(*types: type) -> Callable[[Any], Any]:
    return lambda value: value if type(value) in types else None


def _in_form(form: re.Pattern[str]) -> Callable[[Any], Any]:
    """Dates and times in the one form that Django writes are ordered as their texts are."""
    return lambda value: value if type(value) is str and form.fullmatch(value) else None


def _number(value: Any) -> Decimal | None:
    if type(value) not in (str, int, float):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _float(value: Any) -> float | int | None:
    return value if type(value) in (float, int) and value == value else None


#: What makes a wire value comparable; None for one that is not of the kind (a raw statement's, on SQLite).
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "text": _of_type(str),
    "integer": _of_type(int),
    "boolean": _of_type(bool),
    "float": _float,
    "decimal": _number,
    "uuid": _of_type(bytes),
    "date": _in_form(_DATE),
    "time": _in_form(_TIME),
    "datetime": _in_form(_DATETIME),
    "duration": _of_type(int),
}
#: The lookups that each kind of value takes, ``isnull`` aside.
LOOKUPS: Mapping[str, Sequence[str]] = {
    kind: ("exact", "in", *more)
    for kind, more in {
        "text": ("startswith", "contains"),
        "boolean": (),
        "uuid": (),
        **dict.fromkeys(
            ("integer", "float", "decimal", "date", "time", "datetime", "duration"), ("lt", "lte", "gt", "gte")
        ),
    }.items()
}
