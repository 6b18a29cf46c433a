"""Faults of Corrosion and cr-sqlite."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from p2p_replication.storage import changes as changes_module
from p2p_replication.storage.changes import read_changes
from tests.storage.conftest import StorageReplica, meet
from tests.testapp.models import Coin, Sample

COIN = ("testapp.Coin",)
SAMPLE = ("testapp.Sample",)

Replicas = Callable[..., StorageReplica]


def test_an_empty_batch_is_no_proof_of_having_everything(replica: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    """corrosion#39: an empty set of changes was taken for "there is nothing more", and rows were never asked for."""
    monkeypatch.setattr(changes_module, "SCAN_ROWS", 3)
    a, b = replica("a"), replica("b")
    for i in range(6):
        Coin.objects.using("a").create(code=f"had {i}")
    a.post()
    b.pull(a, COIN)
    had = b.vector("testapp.Coin")
    Coin.objects.using("a").create(code="new")
    a.post()
    first = read_changes(a.database, a.stream("testapp.Coin"), a.declarations["testapp.Coin"], had, after=None)
    assert (first.count, first.vector) == (0, None), "what was scanned is had already, and it was not all"
    b.sql("DELETE FROM p2p_replication_pullcursor")
    b.pull(a, COIN, batches=1)
    assert b.vector("testapp.Coin") == had
    assert not Coin.objects.using("b").filter(code="new").exists()
    b.pull(a, COIN)
    assert Coin.objects.using("b").filter(code="new").exists()
    assert b.vector("testapp.Coin") == a.vector("testapp.Coin")


def any_float(r: random.Random) -> float:
    """A finite float of any exponent: most of them have 17 significant digits."""
    while True:
        (value,) = struct.unpack("<d", r.randbytes(8))
        if value == value and abs(value) != float("inf"):
            return float(value)


@pytest.mark.parametrize("seed", range(3))
def test_floats_do_not_drift(replica: Replicas, seed: int) -> None:
    """cr-sqlite: a float came out as its neighbour, and the next exchange carried the difference on."""
    r = random.Random(seed)
    a, b, c = replica("a"), replica("b"), replica("c")
    values = [any_float(r) for _ in range(500)]
    values += [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1 + 0.2, 1 / 3, 2.0**53 + 2, -1e-7, 1e22]
    rows = [Sample(real=value) for value in values]
    Sample.objects.using("a").bulk_create(rows)
    for one, other in ((b, a), (c, b)):
        other.post()
        one.pull(other, SAMPLE)
        # The row goes on with an edit of another field, and so with another version, at every hop.
        Sample.objects.using(one.alias).update(text=one.alias)
        one.post()
    meet(a, b, c, labels=SAMPLE)
    expected = {row.pk: struct.pack("<d", row.real) for row in rows}
    for alias in "abc":
        found = dict(Sample.objects.using(alias).values_list("pk", "real"))
        assert {key: struct.pack("<d", value) for key, value in found.items()} == expected
    assert set(Sample.objects.using("a").values_list("text", flat=True)) == {"c"}
    assert a.raw("testapp.Sample") == b.raw("testapp.Sample") == c.raw("testapp.Sample")
