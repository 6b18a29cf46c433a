"""Values between PostgreSQL and the wire: exact, or refused; and what one of two databases has no value for."""

from __future__ import annotations

import pytest

from p2p_replication.models import Parking, uuid7
from p2p_replication.protocol.json_text import canonical_json
from p2p_replication.protocol.row_state import same_value
from tests.storage.batches import batch_of, edited, with_values
from tests.storage.conftest import meet
from tests.testapp.models import Sample

SAMPLE = ("testapp.Sample",)

#: Literals of PostgreSQL that Python or Django has no object for, or that have many spellings.
LITERALS = {
    "real": ["'NaN'", "'-0.0'", "'infinity'", "'-infinity'", "1e-320", "0.1", "123456789012345680"],
    "amount": ["'NaN'", "'-0.0001'", "'1234567890123456.7891'", "0"],
    "day": ["'infinity'", "'-infinity'", "'20000-01-02'", "'0044-03-15 BC'"],
    "moment": [
        "'infinity'", "'-infinity'", "'20000-01-02 03:04:05.6 UTC'", "'0044-03-15 12:00:00 UTC BC'",
        "'2024-06-01 12:00:00.5+02'", "'2024-01-02 03:04:05.000001+00'",
    ],
    "clock": ["'24:00:00'", "'03:04:05.1'", "'00:00'"],
    "span": ["'1 mon 2 days'", "'-1 day +00:00:00.000001'", "'100000000 days'", "'36 hours'"],
    "data": ["'{\"b\": 1.50, \"a\": [1e2, -0.0, 1e-9]}'", "'null'", "'\"\\u00e9\"'", "'12345678901234567890123'"],
    "text": ["''", "'  '", "'\u00e9e\u0301 \U0001f600'"],
    "whole": ["9223372036854775807", "-9223372036854775808"],
}  # fmt: skip
CASES = [(name, literal) for name, literals in LITERALS.items() for literal in literals]


@pytest.mark.on("postgresql")
@pytest.mark.parametrize(("name", "literal"), CASES, ids=lambda value: str(value)[:40])
def test_what_only_the_server_has_a_value_for_arrives(replica, name, literal):
    """And the law: what is written for a wire value is read as that value."""
    a, b = replica("a"), replica("b")
    a.outside(f"INSERT INTO testapp_sample (id, {name}) VALUES ('{uuid7()}', {literal})")
    meet(a, b, labels=SAMPLE)
    assert b.parked() == 0
    assert a.raw("testapp.Sample") == b.raw("testapp.Sample") or name in ("span", "moment")
    assert a.canonical("testapp.Sample") == b.canonical("testapp.Sample")
    table = b.stream("testapp.Sample").table
    ((key, row),) = table.read(list(b.keys("testapp.Sample"))).items()
    table.update(key, dict(zip(table.names, row, strict=True)))
    assert all(map(same_value, row, table.read([key])[key]))


BENT = {
    "whole": [1.5, "7", True],
    "flag": [1, 2],
    "real": [1, "1"],
    "amount": ["1.00001", "1", 1.5, "abc"],
    "day": ["2024-1-2", "20240102"],
    "moment": [
        "2024-01-02T03:04:05",
        "2024-01-02 03:04:05.1",
        "2024-01-02 03:04:05+01:00",
        "2024-01-02 03:04:05.000000",
    ],
    "clock": ["3:04", "03:04:05.1"],
    "span": ["1 day", 1.5],
    "blob": ["text"],
    "data": ["{no json", b"x"],
    "ref": ["not-a-uuid", b"short"],
    "text": [b"bytes", "nul \x00 in it", 1],
}


@pytest.mark.on("postgresql")
@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BENT.items() for value in values], ids=repr
)
def test_a_value_that_the_column_would_change_is_parked_and_passed_on(replica, name, value):
    """SQLite's columns hold anything: what a raw statement put there is kept for those that can hold it."""
    a, b, c = replica("a"), replica("b"), replica("c")
    Sample.objects.using("a").bulk_create([Sample(), Sample()])
    changes = batch_of(a, "testapp.Sample")
    outcome = b.apply(a, edited(changes, lambda row: with_values(row, **{name: value}) if row.seq == 1 else row))
    assert outcome.taken
    assert Sample.objects.using("b").count() == 1
    assert Parking.objects.using("b").get().reason == "refused by the database"
    c.pull(b, SAMPLE)
    assert c.parked() == 1


@pytest.mark.on("mixed")
def test_a_nan_has_no_place_in_sqlite(replica):
    """It would become NULL there: the row is parked instead, and passed on to those that can hold it."""
    lite, grown, other, third = replica("lite"), replica("grown"), replica("other"), replica("third")
    assert (lite.site.vendor, grown.site.vendor, third.site.vendor) == ("sqlite", "postgresql", "postgresql")
    Sample.objects.using("grown").create(real=float("nan"))
    meet(grown, lite, labels=SAMPLE)
    assert lite.parked() == 1
    other.pull(lite, SAMPLE)
    third.pull(other, SAMPLE)
    assert third.canonical("testapp.Sample") == grown.canonical("testapp.Sample")


@pytest.mark.on("mixed")
def test_text_with_a_nul_waits_on_postgresql(replica):
    lite, grown = replica("lite"), replica("grown")
    Sample.objects.using("lite").create(text="a\x00b")
    good = Sample.objects.using("lite").create(text="good")
    meet(lite, grown, labels=SAMPLE)
    assert grown.parked() == 1
    assert Sample.objects.using("grown").get().pk == good.pk
    Sample.objects.using("lite").exclude(pk=good.pk).update(text="mended")
    meet(lite, grown, labels=SAMPLE)
    assert grown.parked() == 0
    assert lite.canonical("testapp.Sample") == grown.canonical("testapp.Sample")


@pytest.mark.on("mixed")
def test_zero_has_one_value_whatever_its_sign(replica):
    """SQLite keeps no sign of a zero: that is no difference for anybody."""
    lite, grown = replica("lite"), replica("grown")
    Sample.objects.using("grown").create(real=-0.0)
    meet(lite, grown, labels=SAMPLE)
    sent = lite.sent_rows + grown.sent_rows
    meet(lite, grown, labels=SAMPLE)
    assert lite.sent_rows + grown.sent_rows == sent
    assert lite.parked() == grown.parked() == 0


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ('{"b":1,"a":[1.50,true,null]}', '{"a": [1.50, true, null], "b": 1}'),
        ('{"a": 1, "a": 2}', '{"a": 2}'),
        ("-0.0", "0.0"),
        ("1e2", "100"),
        ("1.5E-300", "1.5E-300"),
        ("0.0000001", "1E-7"),
        ("1e999999999", "1e999999999"),
        ('"é"', '"\\u00e9"'),
        ("NaN", "NaN"),
        ("no json", "no json"),
        ("[" * 100_000, "[" * 100_000),
    ],
    ids=lambda text: text[:20],
)
def test_json_has_one_text(text, canonical):
    assert canonical_json(text) == canonical
    assert canonical_json(canonical) == canonical
