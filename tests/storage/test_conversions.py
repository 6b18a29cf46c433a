"""A migration that gives values another type has written nothing; one that changed them has."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from p2p_replication.storage.capture.conversions import earlier_forms

ID = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
SAME = [
    (5, "5"), (-5, "-5"), (5, "5.00"), (5, 5.0), ("5.5", "5.5000"), ("5.5000", "5.5"), ("5.50", 5.5), ("0.10", "0.1"),
    (True, 1), (0, False), (True, "true"), ("false", False), (12345678901234567890, "12345678901234567890"),
    ("2024-02-29", "2024-02-29 00:00:00"), ("2024-02-29 00:00:00", "2024-02-29"), (ID.bytes, str(ID)),
    (ID.bytes, ID.hex), (str(ID), ID.bytes), (ID.hex, ID.bytes), (7.0, 7), ("7", 7),
]  # fmt: skip
OTHER = [
    (5, "6"), (5, 5.5), ("5.55", "5.5"), ("5.4", 5), (True, 0), ("2024-02-29 10:00:00", "2024-02-29"), ("text", "tex"),
    (None, ""), ("", None), (2, True), (b"5", "5"), ("a", 5), (float("inf"), 5), ("NaN", 5), (ID.bytes, str(ID)[:-1]),
]  # fmt: skip


def is_same(old: Any, new: Any) -> bool:
    return any(type(form) is type(old) and form == old for form in earlier_forms(new))


@pytest.mark.parametrize(("old", "new"), SAME)
def test_the_same_in_another_type(old: Any, new: Any) -> None:
    assert is_same(old, new)


@pytest.mark.parametrize(("old", "new"), OTHER)
def test_something_else(old: Any, new: Any) -> None:
    assert not is_same(old, new)


@pytest.mark.parametrize(
    "value", [None, "", "x" * 10_000, b"\0" * 5, float("nan"), float("-inf"), 10**30, "1e400", "-0"]
)
def test_any_value_has_few_forms(value: Any) -> None:
    assert len(list(earlier_forms(value))) < 25
