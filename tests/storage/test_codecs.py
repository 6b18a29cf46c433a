"""Values on their way: out of SQLite, over the wire, into SQLite, in the same bits and type."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import sqlite3
import uuid
from contextlib import closing

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p_replication.models import uuid7
from p2p_replication.protocol.row_state import same_value
from p2p_replication.storage.digests import field_digests
from tests.storage.conftest import meet
from tests.testapp.models import Sample

SAMPLE = ("testapp.Sample",)
COLUMNS = ("text", "whole", "flag", "real", "amount", "day", "moment", "clock", "span", "blob", "data", "ref")
on_one_table = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)

INT64 = st.integers(-(2**63), 2**63 - 1)
MOMENTS = st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59, 999999))
PROPER = {
    "text": st.text(),
    "whole": INT64,
    "flag": st.booleans(),
    "real": st.floats(allow_nan=False),
    "amount": st.decimals(-(10**10), 10**10, places=4, allow_nan=False, allow_infinity=False),
    "day": st.dates(),
    "moment": MOMENTS.map(lambda m: m.replace(tzinfo=datetime.UTC)),
    "clock": st.times(),
    "span": st.timedeltas(datetime.timedelta(days=-100_000_000), datetime.timedelta(days=100_000_000)),
    "blob": st.binary(),
    "data": st.recursive(
        # Above 1e16 a number is written with an exponent; jsonb makes an integer of that, so it becomes one everywhere.
        st.none() | st.booleans() | st.integers() | st.floats(-1e15, 1e15) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    "ref": st.uuids(),
}
#: Whatever a raw statement can put into any column.
RAW = (
    st.none() | INT64 | st.integers(-5, 5) | st.floats(allow_nan=False) | st.binary(max_size=40) | st.text(max_size=40)
    | st.sampled_from([b"x" * 16, "f" * 32, "F" * 32, "true", "1", "1.50", "0.1", "-0.0", -0.0, math.inf, 1e15, 1e300,
                       "2024-01-02T03:04:05Z", "2024-01-02 03:04:05+00:00", "2024-01-02 03:04:05.100000",
                       "2024-01-02 03:04:05.1", "2024-01-02", "20240102", "03:04", "null", "a\x00b", "\x00", "é", "é"])
)  # fmt: skip


@pytest.fixture
def one(replica):
    a = replica("a")
    Sample.objects.using("a").create()
    a.post()
    return a


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("name", COLUMNS)
def test_reading_what_was_written_for_a_wire_value_gives_that_value(one, name):
    """The law, for every value that a table can hold at all: raw -> wire -> raw -> wire."""
    table = one.stream("testapp.Sample").table
    index = table.names.index(name)

    @on_one_table
    @given(RAW)
    def check(raw):
        try:
            one.sql(f'UPDATE testapp_sample SET "{name}" = %s', [raw])
        except sqlite3.Error as error:  # pragma: no cover
            raise AssertionError from error
        except Exception as error:
            assert "CHECK" in str(error)  # JSON, and nothing else, has one
            return
        ((key, row),) = table.read(list(one.keys("testapp.Sample"))).items()
        table.update(key, {name: row[index]})
        again = table.read([key])[key]
        assert same_value(row[index], again[index]), (raw, row[index], again[index])
        assert field_digests(row) == field_digests(again)

    check()


def held(replica, name, vendor=""):
    """What a column holds, in type and bits; of JSON the value counts, not how it is written, and so it does
    between two kinds of databases."""
    if name != "data" and vendor != "mixed":
        return replica.raw("testapp.Sample")
    return replica.canonical("testapp.Sample")


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("name", COLUMNS)
def test_raw_values_of_any_kind_arrive_in_type_and_bits(replica, name):
    a, b = replica("a"), replica("b")
    values: list = []

    @on_one_table
    @given(st.lists(RAW, max_size=30))
    def collect(found):
        values.extend(found)

    collect()
    rows = []
    for value in {(type(v), repr(v)): v for v in values}.values():
        rows.append((uuid7().hex, value))
    with closing(sqlite3.connect(a.path)) as connection:
        for row in rows:
            connection.execute(f'INSERT OR IGNORE INTO testapp_sample (id, "{name}") VALUES (?, ?)', row)
        connection.commit()
    assert len(a.raw("testapp.Sample")) > 20
    meet(a, b, labels=SAMPLE)
    mine, theirs = held(a, name), held(b, name)
    assert [m for m, t in zip(mine, theirs, strict=True) if m != t] == []


@pytest.mark.on("sqlite", "postgresql", "mixed")
@pytest.mark.parametrize("name", COLUMNS)
def test_proper_values_of_django_arrive_as_they_are(replica, vendor, name):
    """In both directions, whatever databases the two have."""
    a, b = replica("a"), replica("b")
    values: list = []

    @on_one_table
    @given(PROPER[name])
    def collect(found):
        # PostgreSQL has no text with a NUL; that such a row is parked is another test's subject.
        if "\x00" not in str(found) and "\\x00" not in repr(found):
            values.append(found)

    collect()
    for replica_, part in ((a, values[::2]), (b, [*values[1::2], None])):
        Sample.objects.using(replica_.alias).bulk_create(Sample(**{name: value}) for value in part)
    meet(a, b, labels=SAMPLE)
    assert a.parked() == b.parked() == 0
    assert held(a, name, vendor) == held(b, name, vendor)
    ours, theirs = (
        dict(Sample.objects.using(alias).values_list("pk", name)) for alias in ("a", "b")
    )  # fmt: skip
    theirs = {key: theirs[key] for key in ours}
    assert ours == theirs if name == "data" else repr(ours) == repr(theirs)


@pytest.mark.on("sqlite", "postgresql")
def test_json_null_sql_null_and_empty_text_stay_apart(replica):
    a, b = replica("a"), replica("b")
    a.sql("INSERT INTO testapp_sample (id, data, text) VALUES (%s, 'null', '')", [uuid7().hex])
    a.sql("INSERT INTO testapp_sample (id, data, text) VALUES (%s, NULL, NULL)", [uuid7().hex])
    a.sql("INSERT INTO testapp_sample (id, data, text) VALUES (%s, '\"\"', ' ')", [uuid7().hex])
    meet(a, b, labels=SAMPLE)
    assert a.raw("testapp.Sample") == b.raw("testapp.Sample")
    a.sql("UPDATE testapp_sample SET data = 'null', text = '' WHERE data IS NULL")
    meet(a, b, labels=SAMPLE)
    assert a.raw("testapp.Sample") == b.raw("testapp.Sample")


def test_the_canonical_form_does_not_depend_on_how_a_value_was_stored(one):
    """Decimals, booleans, dates and keys that Django wrote have the one form that every database has to give."""
    Sample.objects.using("a").update(
        amount=decimal.Decimal("5"), flag=True, moment=datetime.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
        day=datetime.date(2024, 1, 2), clock=datetime.time(3, 4), span=datetime.timedelta(seconds=1),
        ref=uuid.UUID(int=7), data={"a": 1}, blob=b"\x00", real=1, whole=1, text="t",
    )  # fmt: skip
    table = one.stream("testapp.Sample").table
    (row,) = table.read(list(one.keys("testapp.Sample"))).values()
    assert dict(zip(table.names, row, strict=True)) == {
        "amount": "5.0000", "flag": True, "moment": "2024-01-02 03:04:05.000006", "day": "2024-01-02",
        "clock": "03:04:00", "span": 1_000_000, "ref": uuid.UUID(int=7).bytes, "data": json.dumps({"a": 1}),
        "blob": b"\x00", "real": 1.0, "whole": 1, "text": "t",
    }  # fmt: skip
    assert [type(v) for v in row] == [type(v) for v in dict(zip(table.names, row, strict=True)).values()]


@pytest.mark.on("sqlite")
def test_a_replication_needs_no_python_object_of_the_model(replica):
    """Values that Django itself can't read pass through, and the row beside them can be read."""
    a, b = replica("a"), replica("b")
    with connections["a"].cursor() as cursor:
        cursor.execute("INSERT INTO testapp_sample (id, moment, day) VALUES (%s, 'yesterday', 'never')", [uuid7().hex])
    good = Sample.objects.using("a").create(text="good")
    meet(a, b, labels=SAMPLE)
    assert Sample.objects.using("b").get(pk=good.pk).text == "good"
    assert a.raw("testapp.Sample") == b.raw("testapp.Sample")
