"""A migration that gives values another type has written nothing; one that changed them has."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from p2p_replication.storage.capture.conversions import earlier_forms

ID = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
#: ``(old, new, the new wire type)``
SAME = [
    (5, "5", "text"), (5.5, "5.5", "text"), ("5", 5, "integer"), ("5.00", 5, "integer"), (5.0, 5, "integer"),
    (True, 1, "integer"), ("5.5000", "5.5", "decimal"), ("5.5", "5.5000", "decimal"), (5.5, "5.50", "decimal"),
    (5, "5.00", "decimal"), ("0.10", "0.1", "decimal"), (1, True, "boolean"), ("false", False, "boolean"),
    (True, "true", "text"), ("12345678901234567890", 12345678901234567890, "integer"), (7, 7.0, "float"),
    ("2024-02-29", "2024-02-29 00:00:00", "datetime"), ("2024-02-29 00:00:00", "2024-02-29", "date"),
    (str(ID), ID.bytes, "uuid"), (ID.hex, ID.bytes, "uuid"), (ID.bytes, str(ID), "text"), (ID.bytes, ID.hex, "text"),
]  # fmt: skip
OTHER = [
    ("5", "5.0", "text"), ("5.0", "5", "text"), ("1", "true", "text"), (ID.hex, str(ID), "text"), (5, "5", "json"),
    ("2024-02-29", "2024-02-29 00:00:00", "text"), (6, "5", "text"), (5.5, 5, "integer"), ("5.55", "5.5", "decimal"),
    ("5.4", 5, "integer"), (0, True, "boolean"), ("2024-02-29 10:00:00", "2024-02-29", "date"), (None, "", "text"),
    ("", None, "text"), (2, True, "boolean"), (b"5", "5", "text"), (5, "a", "text"), (5, float("inf"), "float"),
    (5, "NaN", "decimal"), (str(ID)[:-1], ID.bytes, "uuid"),
]  # fmt: skip


def is_same(old: Any, new: Any, kind: str) -> bool:
    return any(type(form) is type(old) and form == old for form in earlier_forms(new, kind))


@pytest.mark.parametrize(("old", "new", "kind"), SAME)
def test_the_same_in_another_type(old: Any, new: Any, kind: str) -> None:
    assert is_same(old, new, kind)


@pytest.mark.parametrize(("old", "new", "kind"), OTHER)
def test_something_else(old: Any, new: Any, kind: str) -> None:
    assert not is_same(old, new, kind)


def test_any_value_has_few_forms() -> None:
    for value in (None, "", "x" * 10_000, b"\0" * 5, float("nan"), float("-inf"), 10**30, "1e400", "-0"):
        assert len(list(earlier_forms(value, "decimal"))) < 25
