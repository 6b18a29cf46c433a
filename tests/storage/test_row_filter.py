"""A filter finds the rows that Django's own lookups find, on both databases."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p_replication.models.where import canonical_where
from p2p_replication.protocol.row_filter import RowFilter
from p2p_replication.registry import registry
from tests.testapp.models import Sample

LABEL = "testapp.Sample"
#: No capitals: to Django's lookups on SQLite they are the same as small letters.
TEXTS = ("", "a", "ab", "äb", "a%b", "a_b", "axb", "\\a", "表", "'a'")
REFS = (uuid.UUID(int=1), uuid.UUID(int=2**127))
VALUES: dict[str, Any] = {
    "text": st.sampled_from(TEXTS),
    "whole": st.sampled_from((0, -1, 1, 2**53 + 1, 2**63 - 1, -(2**63))),
    "flag": st.booleans(),
    "real": st.sampled_from((0.0, -0.0, 0.1, 0.30000000000000004, 0.3, 1e300, -5e-324, 2.0)),
    "amount": st.sampled_from([Decimal(d) for d in ("0", "-0.0001", "0.1", "0.3", "99999999.9999", "2", "10", "9")]),
    "day": st.dates(datetime.date(1, 1, 1), datetime.date(3, 1, 1)) | st.dates(datetime.date(2026, 1, 1)),
    "moment": st.datetimes(
        datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 1, 0, 0, 2), timezones=st.just(datetime.UTC)
    ),
    "clock": st.sampled_from([datetime.time(1), datetime.time(1, microsecond=1), datetime.time(23, 59, 59, 999999)]),
    "span": st.timedeltas(datetime.timedelta(-1), datetime.timedelta(1)),
    "ref": st.sampled_from(REFS),
}
ORDERED = ("lt", "lte", "gt", "gte")
LOOKUPS = {
    "text": ("exact", "in", "startswith", "contains"),
    "flag": ("exact", "in"),
    "ref": ("exact", "in"),
}


@st.composite
def lookups(draw: Any) -> dict[str, Any]:
    field = draw(st.sampled_from(sorted(VALUES)))
    lookup = draw(st.sampled_from((*LOOKUPS.get(field, ("exact", "in", *ORDERED)), "isnull")))
    if lookup == "isnull":
        return {f"{field}__isnull": draw(st.booleans())}
    values = VALUES[field]
    return {f"{field}__{lookup}": draw(st.lists(values, min_size=1, max_size=3) if lookup == "in" else values)}


rows = st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()})


@pytest.mark.on("sqlite", "postgresql")
def test_it_finds_what_django_finds(replica):
    a = replica("a")
    samples = Sample.objects.using(a.alias)
    options = registry.get(LABEL)
    assert options is not None

    @settings(
        max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None,
    )  # fmt: skip
    @given(st.lists(rows, min_size=1, max_size=4), st.lists(lookups(), min_size=1, max_size=2))
    def check(made: list[dict[str, Any]], wheres: list[dict[str, Any]]) -> None:
        samples.all().delete()
        samples.bulk_create(Sample(**values) for values in made)
        where = {name: value for one in wheres for name, value in one.items()}
        row_filter = RowFilter.parse(canonical_where(options, where))
        table = a.stream(LABEL).table
        read = table.read(list(a.keys(LABEL)))
        found = {key for key, row in read.items() if row_filter.matches(dict(zip(table.names, row, strict=True)))}
        django = {a.site.key(key) for key in samples.filter(**where).values_list("pk", flat=True)}
        assert found == django, where
        for key, row in read.items():
            assert bool(row_filter.unmet(dict(zip(table.names, row, strict=True)))) == (key not in found)

    check()


@pytest.mark.on("sqlite")
def test_a_raw_value_of_another_kind_matches_nothing(replica):
    a = replica("a")
    Sample.objects.using(a.alias).create(whole=1, amount=1, day=datetime.date(2026, 1, 1), real=1.0)
    a.sql("UPDATE testapp_sample SET whole = 'many', amount = 'much', day = 'soon', real = 'big', ref = 'x', flag = 7")
    options, table = registry.get(LABEL), a.stream(LABEL).table
    assert options is not None
    (row,) = table.read(list(a.keys(LABEL))).values()
    values = dict(zip(table.names, row, strict=True))
    for where in (
        {"whole__lt": 2**60}, {"whole__gte": -5}, {"amount__lt": 5}, {"day__gt": datetime.date(1, 1, 1)},
        {"real__gt": 0.0}, {"ref": REFS[0]}, {"flag__in": [True, False]},
    ):  # fmt: skip
        assert not RowFilter.parse(canonical_where(options, where)).matches(values), where
    assert RowFilter.parse(canonical_where(options, {"whole__isnull": False})).matches(values)


def test_capitals_count():
    """Also on SQLite, whose own LIKE does not tell them apart."""
    options = registry.get(LABEL)
    assert options is not None
    for where in ({"text__startswith": "A"}, {"text__contains": "A"}, {"text": "A"}):
        row_filter = RowFilter.parse(canonical_where(options, where))
        assert row_filter.matches({"text": "A"}) and not row_filter.matches({"text": "a"})


def test_a_field_that_is_not_there_matches_nothing():
    options = registry.get(LABEL)
    assert options is not None
    assert not RowFilter.parse(canonical_where(options, {"text__isnull": True})).matches({"whole": 1})
