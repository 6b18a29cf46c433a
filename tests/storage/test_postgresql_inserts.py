"""Rows go into PostgreSQL as one JSON parameter: each value arrives, or is refused, as it would be by itself."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import pytest
from django.db import DataError, connections, transaction

from p2p_replication.models.ledger import LedgerEntry
from p2p_replication.storage import replica_database
from p2p_replication.storage.vendors import vendor_of
from tests.testapp.models import Coin

pytestmark = pytest.mark.on("postgresql")

COLUMNS = {
    "plain": "text", "short": "varchar(3)", "fixed": "char(5)", "raw": "bytea", "number": "numeric(10,2)",
    "small": "smallint", "big": "bigint", "real": "double precision", "yes": "boolean", "json": "jsonb",
    "id": "uuid", "at": "timestamptz", "host": "inet", "span": "interval", 'odd "name" 100%': "text",
}  # fmt: skip
KEY = uuid.UUID(int=7)


@pytest.fixture
def insert(replica):
    """Insert rows, given as dicts, into a table with a column of each kind; return what it has then."""
    replica("a")
    connection = connections["a"]
    quoted = {name: connection.ops.quote_name(name).replace('odd "name"', 'odd ""name""') for name in COLUMNS}
    columns = ", ".join(f"{quoted[name]} {kind}" for name, kind in COLUMNS.items())
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE kinds (serial bigserial, {columns}, UNIQUE (big))", None)

    def insert(*rows: dict[str, Any], conflict: str = "") -> list[tuple[Any, ...]]:
        names = list(dict.fromkeys(name for row in rows for name in row))
        records = [[row.get(name) for name in names] for row in rows]
        into = [quoted[name].replace("%", "%%") for name in names]
        with transaction.atomic(using="a"), connection.cursor() as cursor:
            count = vendor_of(connection).insert(cursor, '"kinds"', into, records, conflict)
            cursor.execute(f"SELECT {', '.join(quoted[name] for name in names)} FROM kinds ORDER BY serial", None)
            found = cursor.fetchall()
        assert count == len(rows) or conflict
        return found

    yield insert
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE kinds", None)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("plain", 'it\'s "quoted" \\ back\\slash \n\t % %s é 漢 🎉', None),
        ("plain", "", None),
        ("plain", "null", None),
        ("plain", "{1,2}", None),
        ("short", "abc", None),
        ("fixed", "ab", "ab   "),
        ("fixed", "abcde", None),
        ("raw", b"\x00\xff\\x41", None),
        ("raw", b"", None),
        ("number", "12345678.90", decimal.Decimal("12345678.90")),
        ("small", -32768, None),
        ("big", 2**63 - 1, None),
        ("big", -(2**63), None),
        ("real", "0.1", 0.1),
        ("real", "-0.0", -0.0),
        ("real", "1e+308", 1e308),
        ("yes", True, None),
        ("yes", False, None),
        ("json", '{"a": [1, "x", null], "b": "1e2"}', '{"a": [1, "x", null], "b": "1e2"}'),
        ("json", "null", "null"),
        ("id", str(KEY), KEY),
        ("at", "2026-11-27 12:00:00.000001+00", datetime.datetime(2026, 11, 27, 12, 0, 0, 1, datetime.UTC)),
        ("span", "-1 days 5 microseconds", datetime.timedelta(days=-1, microseconds=5)),
        ('odd "name" 100%', "x", None),
    ],
)
def test_a_value_arrives_as_it_is(insert, name, value, found):
    expected = value if found is None else found
    ((arrived,), (nothing,)) = insert({name: value}, {name: None})
    assert (bytes(arrived) if isinstance(arrived, memoryview) else arrived) == expected
    assert str(arrived) == str(expected) or isinstance(expected, bytes)
    assert nothing is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("short", "abcd"), ("fixed", "abcdef"), ("small", 40_000), ("number", "123456789012"), ("id", "no"),
     ("plain", "a\0b"), ("json", "{")],
)  # fmt: skip
def test_what_a_column_does_not_take_is_refused_and_never_cut_off(insert, name, value):
    with pytest.raises((DataError, ValueError)):
        insert({name: value})


def test_values_that_json_does_not_have_arrive_as_well(insert):
    """A field's own default may be anything that the driver takes."""
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    found = insert(
        {"at": moment, "number": decimal.Decimal("1.50"), "id": KEY, "plain": "x"},
        {"at": None, "number": None, "id": None, "plain": None},
    )
    assert found == [(moment, decimal.Decimal("1.50"), KEY, "x"), (None, None, None, None)]


def test_many_rows_and_a_conflict(insert):
    rows = [{"big": i, "plain": str(i)} for i in range(1_200)]
    assert insert(*rows) == [(i, str(i)) for i in range(1_200)]
    found = insert({"big": 5, "plain": "again"}, {"big": 5_000, "plain": "new"}, conflict="ON CONFLICT DO NOTHING")
    assert found[5] == (5, "5") and found[-1] == (5_000, "new")


def rows_of_the_planner() -> int:
    with connections["a"].cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE relname = %s", [LedgerEntry._meta.db_table])
        return int(cursor.fetchone()[0])


def test_the_planner_hears_of_the_ledger_s_growth(replica, monkeypatch):
    """Without that it reads all of the ledger for each batch of a first sync."""
    monkeypatch.setattr(replica_database, "GROWTH", 50)
    a = replica("a")
    Coin.objects.using("a").bulk_create(Coin(code=f"c{i}", name="x") for i in range(40))
    a.post()
    assert rows_of_the_planner() < 40
    Coin.objects.using("a").bulk_create(Coin(code=f"d{i}", name="x") for i in range(40))
    a.post()
    assert rows_of_the_planner() == 80
    Coin.objects.using("a").bulk_create(Coin(code=f"e{i}", name="x") for i in range(40))
    a.post()
    assert rows_of_the_planner() == 80, "not again before it has doubled"
