"""The state of one row: ``(inserted, deleted, {field: (clock, value)})`` (DESIGN 3).

Values are canonical wire values: None, bool, int, float, str or bytes, so that every replica orders and compares
them alike, whatever its database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from p2p_replication.protocol.clock import NEVER

Value = None | bool | int | float | str | bytes

#: ``{field: clocks}``, the greatest clock of each writer.
Past = Mapping[str, tuple[int, ...]]


class _Nothing(dict[Any, Any]):
    """A mapping that stays empty, and itself when it is copied."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("nothing can be put in here: it belongs to many rows")

    __setitem__ = setdefault = update = __ior__ = _refuse  # type: ignore[assignment]

    def __reduce__(self) -> str:
        return "NOTHING"


#: What most rows have beside their values. One for all, as a first sync makes some for each row.
NOTHING: Mapping[Any, Any] = _Nothing()
#: The name in a ``Past`` under which stands what a delete knew of.
DELETE = ""

_encode = msgspec.msgpack.Encoder().encode


class RowState:
    """An immutable row state, stored compactly.

    Attributes:
        inserted: clock of the latest insert.
        deleted: clock of the latest delete, -1 if there was none.
        clock: clock of every field that ``field_clocks`` does not name.
        values: ``{field: value}``; a field that is missing is bottom: known to nobody who wrote the row.
        field_clocks: ``{field: clock}`` of the fields whose clock is another.
        past: ``{field: clocks}``: what the writer of a field knew of when it wrote, others' writes only (see
            ``conflicts``); under ``DELETE``, what the one who deleted the row knew of. It decides nothing but what is
            a conflict, and does not count in comparisons.
    """

    __slots__ = ("clock", "deleted", "field_clocks", "inserted", "past", "values")

    def __init__(
        self,
        inserted: int,
        deleted: int = NEVER,
        clock: int = 0,
        values: Mapping[str, Any] | None = None,
        field_clocks: Mapping[str, int] | None = None,
        past: Past | None = None,
    ) -> None:
        self.inserted = inserted
        self.deleted = deleted
        self.clock = clock
        self.values: Mapping[str, Any] = values if values is not None else NOTHING
        self.field_clocks: Mapping[str, int] = field_clocks if field_clocks is not None else NOTHING
        self.past: Past = past if past is not None else NOTHING

    @classmethod
    def of(
        cls, inserted: int, deleted: int, fields: Mapping[str, tuple[int, Any]], past: Past | None = None
    ) -> RowState:
        """Build the compact form: the commonest clock is the row's."""
        if not fields:
            return cls(inserted, deleted, max(inserted, deleted), past=past)
        clocks = Counter(clock for clock, _ in fields.values())
        clock = max(clocks, key=lambda c: (clocks[c], c))
        return cls(
            inserted,
            deleted,
            clock,
            {name: value for name, (_, value) in fields.items()},
            {name: c for name, (c, _) in fields.items() if c != clock},
            past,
        )

    @property
    def alive(self) -> bool:
        return self.inserted > self.deleted

    def clock_of(self, field: str) -> int:
        return self.field_clocks.get(field, self.clock)

    def fields(self) -> dict[str, tuple[int, Any]]:
        return {name: (self.field_clocks.get(name, self.clock), value) for name, value in self.values.items()}

    def latest(self) -> int:
        """Return the greatest clock anywhere in the state: a new write must be above it."""
        latest = self.inserted if self.inserted > self.deleted else self.deleted
        if self.values and self.clock > latest:
            latest = self.clock
        if self.values and self.field_clocks:
            latest = max(latest, *self.field_clocks.values())
        return latest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowState):
            return NotImplemented
        if (self.inserted, self.deleted) != (other.inserted, other.deleted):
            return False
        mine, theirs = self.fields(), other.fields()
        return mine.keys() == theirs.keys() and all(
            mine[name][0] == theirs[name][0] and same_value(mine[name][1], theirs[name][1]) for name in mine
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RowState(inserted={self.inserted}, deleted={self.deleted}, fields={self.fields()!r})"


def same_value(a: Any, b: Any) -> bool:
    """Equality of canonical values: by type, so that 1, 1.0 and True differ, and NaN equals itself.

    Zero has one value whatever its sign, as SQLite does not keep it.
    """
    if type(a) is not type(b):
        return False
    return bool(a == b) or (type(a) is float and _encode(a) == _encode(b))


def order_of(value: Any) -> bytes:
    """Return a key that orders canonical values of any type in the same way everywhere."""
    return _encode(value + 0.0 if type(value) is float else value)
