"""A function that fields of the test app merge by."""

from __future__ import annotations

from typing import Any


def longer(a: str | None, b: str | None) -> str | None:
    """The longer text, of equally long ones the later in the alphabet."""
    return max(a or "", b or "", key=lambda text: (len(text), text)) or None


def merged_dict(a: Any, b: Any) -> Any:
    """The greatest number for each key."""
    a, b = a or {}, b or {}
    return {key: max(a.get(key, 0), b.get(key, 0)) for key in a.keys() | b.keys()}
