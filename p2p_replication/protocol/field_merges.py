"""Declared merges: how two values of one field become one, in place of last-writer-wins.

Each is a join semilattice (Shapiro et al., 2011) over *states*: canonical wire values. The state of most is the value
itself; a counter's is a text that says who has added how much. A field with a merge keeps the clock of its row's
insert: the values of one life of the row are joined, a later life begins anew.
"""

from __future__ import annotations

import abc
import copy
import json
import logging
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from p2p_replication.protocol.json_text import list_items
from p2p_replication.protocol.row_state import Value, order_of, same_value

logger = logging.getLogger("p2p_replication.protocol")

#: Whose sum in a counter was there before replication.
BASE = ""
#: A decimal number as it travels.
DECIMAL = re.compile(r"-?[0-9]{1,1000}(\.[0-9]{1,1000})?")


class FieldMerge(abc.ABC):
    """How one field merges.

    Attributes:
        name: part of the model's fingerprint: both sides of a pool must have the same.
        wire_types: the kinds of field that it is for, by the beginning of their name on the wire; none: all.
        null: it is for fields that may be null, too.
    """

    name: str
    wire_types: tuple[str, ...] = ()
    null = True
    wire_type = ""

    def of(self, wire_type: str) -> Self:
        """Return this merge for a field of that kind."""
        bound = copy.copy(self)
        bound.wire_type = wire_type
        return bound

    @abc.abstractmethod
    def join(self, a: Value, b: Value) -> Value:
        """Return the join of two states."""

    def shown(self, state: Value) -> Value:
        """Return what the table holds for a state."""
        return state

    def initial(self, value: Value) -> Value:
        """Return the state of a value that was there before anybody could say who wrote what."""
        return value

    def is_state(self, value: Value) -> bool:
        """Tell whether a value that a peer sends can be a state."""
        return True

    def written(self, state: Value, before: Value, after: Value, origin: str) -> Value:
        """Return the state after the application has made ``after`` of the value ``before`` in the table."""
        return self.join(state, after)

    def inserted(self, value: Value, origin: str) -> Value:
        """Return the state of a value in a new row."""
        return self.initial(value)


class Max(FieldMerge):
    """The greatest value that anybody has written; null is the least."""

    name = "max"
    wire_types = ("integer", "float", "decimal", "date", "time", "duration", "text", "boolean")

    def join(self, a: Value, b: Value) -> Value:
        return a if _magnitude(a, self.wire_type) >= _magnitude(b, self.wire_type) else b


class Min(FieldMerge):
    """The least value that anybody has written; null is above all others."""

    name = "min"
    wire_types = Max.wire_types

    def join(self, a: Value, b: Value) -> Value:
        if a is None or b is None:
            return b if a is None else a
        return a if _magnitude(a, self.wire_type) <= _magnitude(b, self.wire_type) else b


class Union(FieldMerge):
    """A JSON list as a set: everything that anybody has put in, sorted, once. What was taken out comes back.

    Null is the empty set; a value that is no list counts as a list of itself.
    """

    name = "union"
    wire_types = ("json",)

    def join(self, a: Value, b: Value) -> Value:
        if a is None or b is None:
            return self.initial(b if a is None else a)
        return _as_list(_members(a) | _members(b))

    def initial(self, value: Value) -> Value:
        return None if value is None else _as_list(_members(value))


class Counter(FieldMerge):
    """A number that is counted up and down: what each has added is added up.

    What was added is the difference that a write makes to the table, so ``F()`` and raw SQL count as well. The state
    is a JSON text, ``{origin: [edits, sum]}``.
    """

    name = "counter"
    wire_types = ("integer", "decimal")
    null = False

    def join(self, a: Value, b: Value) -> Value:
        sums = _sums(a)
        for origin, item in _sums(b).items():
            sums[origin] = max(sums.get(origin, item), item, key=lambda i: (i[0], Decimal(str(i[1]))))
        return _as_text(sums)

    def shown(self, state: Value) -> Value:
        sums = [total for _, total in _sums(state).values()]
        if any(type(total) is str for total in sums):
            return format(sum(map(Decimal, sums), Decimal()), "f")
        return int(sum(sums))

    def initial(self, value: Value) -> Value:
        return _as_text({BASE: [0, _number(value)]})

    def inserted(self, value: Value, origin: str) -> Value:
        return _as_text({origin: [1, _number(value)]})

    def is_state(self, value: Value) -> bool:
        try:
            return bool(_sums(value))
        except ValueError:
            return False

    def written(self, state: Value, before: Value, after: Value, origin: str) -> Value:
        sums = _sums(state)
        edits, total = sums.get(origin, [0, 0 if type(_number(after)) is int else "0"])
        sums[origin] = [edits + 1, _plus(total, _minus(_number(after), _number(before)))]
        return _as_text(sums)


class Merged(FieldMerge):
    """A function ``(a, b) -> value`` of the project's own, which must be a join: see ``assert_merge_is_join``.

    It is given what the field's values are on the wire; JSON comes read, decimals as ``Decimal``.
    """

    def __init__(self, name: str, function: Callable[[Any, Any], Any]) -> None:
        self.name = f"function {name}"
        self.function = function

    def join(self, a: Value, b: Value) -> Value:
        if same_value(a, b):
            return a
        try:
            return self._packed(self.function(self._read(a), self._read(b)))
        except Exception:
            # Where the project's code fails, it fails on every replica: all take the same one.
            logger.exception("%s fails for %r and %r: the greater one is taken", self.name, a, b)
            return max(a, b, key=order_of)

    def _read(self, value: Value) -> Any:
        if type(value) is not str:
            return value
        if self.wire_type == "json":
            return json.loads(value)
        return Decimal(value) if self.wire_type.startswith("decimal") else value

    def _packed(self, value: Any) -> Value:
        if self.wire_type == "json":
            return None if value is None else json.dumps(value, sort_keys=True)
        if isinstance(value, Decimal):
            return format(value, "f")
        if value is None or type(value) in (bool, int, float, str, bytes):
            return value  # type: ignore[no-any-return]
        raise TypeError(f"{self.name} returned {value!r}, which is no value of a {self.wire_type} field")


def _magnitude(value: Value, wire_type: str) -> tuple[int, Any, bytes]:
    """Return a key that orders values of one kind by their magnitude, and strays after them, alike everywhere."""
    if value is None:
        return 0, 0, b""
    if type(value) in (bool, int, float) and value == value:
        return 1, value, order_of(value)
    if type(value) is str and wire_type.startswith("decimal"):
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        return (2, number, order_of(value)) if number.is_finite() else (4, b"", order_of(value))
    return (3, value, b"") if type(value) is str else (4, b"", order_of(value))


def _members(value: Value) -> set[str]:
    if value is None:
        return set()
    return set(list_items(value)) if type(value) is str else {json.dumps(repr(value))}


def _as_list(members: set[str]) -> str:
    return f"[{', '.join(sorted(members))}]"


def _sums(state: Value) -> dict[str, Any]:
    try:
        sums = json.loads(state) if type(state) is str else None
    except (ValueError, RecursionError):
        sums = None
    if not isinstance(sums, dict) or not all(_is_sum(item) for item in sums.values()):
        raise ValueError(f"{state!r} is no state of a counter")
    return sums


def _is_sum(item: Any) -> bool:
    if type(item) is not list or len(item) != 2 or type(item[0]) is not int:
        return False
    return type(item[1]) is int or (type(item[1]) is str and bool(DECIMAL.fullmatch(item[1])))


def _as_text(sums: dict[str, Any]) -> str:
    return json.dumps(sums, sort_keys=True, separators=(",", ":"))


def _number(value: Value) -> int | str:
    """Return a wire value as a number: 0 for what is none, which only a raw statement can have written."""
    if type(value) is int:
        return value
    return value if type(value) is str and DECIMAL.fullmatch(value) else 0


def _plus(a: int | str, b: int | str) -> int | str:
    if type(a) is int and type(b) is int:
        return a + b
    return format(Decimal(a) + Decimal(b), "f")


def _minus(a: int | str, b: int | str) -> int | str:
    if type(a) is int and type(b) is int:
        return a - b
    return format(Decimal(a) - Decimal(b), "f")
