"""Modifiers in the tests: functions of rows."""

from __future__ import annotations

from typing import Any


def no_secrets(row: dict[str, Any]) -> dict[str, Any] | None:
    """Refuse rows whose title says that they are secret."""
    return None if row.get("title", "").startswith("secret") else row


def masked(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "title": "zzz"}


def without_body(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "body"}


def shouting(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "title": row["title"].upper()}


def broken(row: dict[str, Any]) -> dict[str, Any]:
    raise LookupError("no rules today")


def with_a_new_key(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "id": "0198c0de-0000-7000-8000-000000000000"}


def with_a_typo(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "tilte": "x"}
