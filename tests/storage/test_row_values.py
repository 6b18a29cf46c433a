"""Rows as a project's functions see them: what ``values()`` says, and back to exactly what a save would store."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import Any

import pytest

from p2p_replication.storage.row_values import python_row, wire_values
from tests.replicas import TestReplica
from tests.testapp.models import Book, Sample, Shelf, Specimen

pytestmark = pytest.mark.on("sqlite", "postgresql")
UTC = datetime.UTC
BEFORE: dict[str, Any] = {
    "text": "näme", "whole": 2**60, "flag": True, "real": 0.1, "amount": Decimal("12.3400"),
    "day": datetime.date(2026, 2, 28), "moment": datetime.datetime(2026, 1, 2, 3, 4, 5, 678, UTC),
    "clock": datetime.time(1, 2, 3), "span": datetime.timedelta(days=-1, microseconds=5), "blob": b"\x00\xff",
    "data": {"a": [1, None, "x"]}, "ref": uuid.UUID(int=5),
}  # fmt: skip
AFTER: dict[str, Any] = {
    "text": "", "whole": -1, "flag": False, "real": 1e300, "amount": Decimal("-0.5"),
    "day": datetime.date(1999, 12, 31), "moment": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "clock": datetime.time(23, 59, 59, 999999), "span": datetime.timedelta(hours=30), "blob": b"",
    "data": [True, 1.5], "ref": uuid.UUID(int=6),
}  # fmt: skip


def wire_row(replica: TestReplica, row: Any) -> tuple[str, dict[str, Any]]:
    table = replica.stream(row._meta.label).table
    key = replica.site.key(row.pk)
    return key, dict(zip(table.names, table.read([key])[key], strict=True))


def values_of(row: Any) -> dict[str, Any]:
    found = row._meta.model.objects.using("a").filter(pk=row.pk).values().get()
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in found.items()}


@pytest.mark.parametrize("values", [BEFORE, AFTER, dict.fromkeys(BEFORE)])
def test_a_row_is_what_values_says(replica: Any, vendor: str, values: dict[str, Any]) -> None:
    a = replica("a")
    row = Sample.objects.using("a").create(**values)
    seen = python_row(a.stream("testapp.Sample").table, *wire_row(a, row))
    assert seen == values_of(row)
    assert {name: type(value) for name, value in seen.items()} == {n: type(v) for n, v in values_of(row).items()}


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.parametrize("value", ["after", None])
def test_a_changed_value_is_stored_as_a_save_would(replica: Any, vendor: str, name: str, value: Any) -> None:
    a = replica("a")
    row = Sample.objects.using("a").create(**BEFORE)
    table = a.stream("testapp.Sample").table
    key, wire = wire_row(a, row)
    before = python_row(table, key, wire)
    changed = wire_values(table, before, {**before, name: AFTER[name] if value else None}, wire)
    Sample.objects.using("a").filter(pk=row.pk).update(**{name: AFTER[name] if value else None})
    assert changed == wire_row(a, row)[1]


def test_fields_of_a_projects_own_have_their_own_values(replica: Any, vendor: str) -> None:
    a = replica("a")
    row = Specimen.objects.using("a").create(tags=["x", "y"], price="1.05", size="s")
    table = a.stream("testapp.Specimen").table
    key, wire = wire_row(a, row)
    before = python_row(table, key, wire)
    assert (before["tags"], before["price"]) == (["x", "y"], "1.05")
    changed = wire_values(table, before, {**before, "tags": ["z"], "price": "2.50"}, wire)
    assert (changed["tags"], changed["price"]) == ("z", 250)


def test_a_foreign_key_goes_by_its_value(replica: Any, vendor: str) -> None:
    a = replica("a")
    shelf = Shelf.objects.using("a").create(name="s")
    row = Book.objects.using("a").create(title="t", shelf=shelf)
    table = a.stream("testapp.Book").table
    key, wire = wire_row(a, row)
    before = python_row(table, key, wire)
    assert before == {"id": row.pk, "shelf_id": shelf.pk, "title": "t"}
    other = uuid.UUID(int=7)
    assert wire_values(table, before, {**before, "shelf_id": other}, wire)["shelf"] == other.bytes


def test_what_is_unchanged_stays_to_the_byte_and_what_is_left_out_is_none(replica: Any, vendor: str) -> None:
    a = replica("a")
    row = Sample.objects.using("a").create(**BEFORE)
    table = a.stream("testapp.Sample").table
    key, wire = wire_row(a, row)
    before = python_row(table, key, wire)
    newer = {**wire, "field of a newer schema": "kept"}
    assert wire_values(table, before, dict(before), newer) == newer
    del before["text"]
    assert "text" not in wire_values(table, {**before, "text": "näme"}, before, newer)
