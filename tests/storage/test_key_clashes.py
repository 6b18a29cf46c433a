"""Unique clashes and ``on_delete`` where rows have local numbers, which refer to other rows on each replica."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.db.models.signals import post_save

from p2p_replication.exceptions import CannotRestore
from p2p_replication.models import Conflict, Parking, uuid7
from tests.seeds import seeded
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_keys import burn
from tests.storage.test_on_delete import mend
from tests.storage.test_unique_clashes import _rows_of_different_ages, parked, reasons, same
from tests.testapp.models import Crate, Depot, Parcel
from tests.workloads.parcels import write

pytestmark = pytest.mark.on("sqlite", "postgresql")
LABELS = ("testapp.Depot", "testapp.Crate", "testapp.Parcel")
__all__ = ["_rows_of_different_ages"]


@pytest.fixture
def three(replica: Any) -> list[StorageReplica]:
    """Replicas that have two depots in common, under other numbers."""
    replicas = [replica(name) for name in "abc"]
    for i, one in enumerate(replicas):
        burn(one, 1000 * (i + 1))
    for slug in ("north", "south"):
        Depot.objects.using("a").create(slug=slug)
    meet(*replicas, labels=LABELS)
    return replicas


def depot(alias: str, slug: str) -> Depot:
    return Depot.objects.using(alias).get(slug=slug)


def parcels(alias: str) -> set[tuple[Any, ...]]:
    return set(Parcel.objects.using(alias).values_list("uid", "code", "depot__slug", "slot", "part_of__uid"))


def test_the_older_row_keeps_the_value_and_the_other_comes_back_with_what_depends_on_it(three):
    older = Parcel.objects.using("a").create(code="x")
    younger = Parcel.objects.using("b").create(code="x", depot=depot("b", "north"), handled=7)
    part = Parcel.objects.using("b").create(part_of=younger)
    meet(*three, labels=LABELS)
    for one in three:
        assert parcels(one.alias) == {(older.uid, "x", None, None, None)}
        assert parked(one) == {("testapp.Parcel", younger.uid.bytes), ("testapp.Parcel", part.uid.bytes)}
        assert reasons(one) == {"unique value taken", "missing parent"}
    same(*three, labels=LABELS)
    Parcel.objects.using("c").filter(uid=older.uid).update(code="y")
    meet(*three, labels=LABELS)
    for one in three:
        assert one.parked() == 0
        assert parcels(one.alias) == {
            (older.uid, "y", None, None, None),
            (younger.uid, "x", "north", None, None),
            (part.uid, None, None, None, younger.uid),
        }
    assert Parcel.objects.using("b").get(uid=younger.uid).handled == 7
    same(*three, labels=LABELS)


def test_a_constraint_over_a_local_number(three):
    """It is compared with what the number stands for: the same slot of the same depot, not of the same number."""
    burnt = depot("a", "north").pk - depot("a", "south").pk
    assert burnt and depot("a", "north").pk != depot("b", "north").pk
    older = Parcel.objects.using("a").create(depot=depot("a", "north"), slot=1)
    younger = Parcel.objects.using("b").create(depot=depot("b", "north"), slot=1)
    beside = Parcel.objects.using("c").create(depot=depot("c", "south"), slot=1)
    meet(*three, labels=LABELS)
    for one in three:
        assert parcels(one.alias) == {(older.uid, None, "north", 1, None), (beside.uid, None, "south", 1, None)}
    same(*three, labels=LABELS)
    Parcel.objects.using("b").filter(uid=older.uid).update(depot=None)
    meet(*three, labels=LABELS)
    for one in three:
        assert one.parked() == 0
        assert (younger.uid, None, "north", 1, None) in parcels(one.alias)
    same(*three, labels=LABELS)


def test_rows_that_wait_together_clash_with_nobody_by_a_reference_to_each_other(three):
    """A parcel whose depot is not here yet has no slot that anybody could hold, but a code."""
    older = Parcel.objects.using("a").create(code="x")
    west = Depot.objects.using("b").create(slug="west")
    younger = Parcel.objects.using("b").create(code="x", depot=west, slot=1)
    three[0].pull(three[1], ("testapp.Parcel",))
    three[0].retry_parked()
    assert parcels("a") == {(older.uid, "x", None, None, None)}
    meet(*three, labels=LABELS)
    for one in three:
        assert parcels(one.alias) == {(older.uid, "x", None, None, None)}
        assert parked(one) == {("testapp.Parcel", younger.uid.bytes)}
    same(*three, labels=LABELS)


def test_two_rows_that_swap_values_come_in_together(three):
    one, two = (Parcel.objects.using("a").create(code=code) for code in "xy")
    meet(*three, labels=LABELS)
    for row, code in ((one, "z"), (two, "x"), (one, "y")):
        Parcel.objects.using("a").filter(uid=row.uid).update(code=code)
    meet(*three, labels=LABELS)
    for replica in three:
        assert parcels(replica.alias) == {(one.uid, "y", None, None, None), (two.uid, "x", None, None, None)}
    same(*three, labels=LABELS)


def test_a_delete_that_meets_a_new_reference_is_carried_out_by_on_delete(three):
    crate = Crate.objects.using("b").create(depot=depot("b", "north"))
    parcel = Parcel.objects.using("b").create(depot=depot("b", "north"), slot=3)
    Depot.objects.using("a").filter(slug="north").delete()
    mend(*three, labels=LABELS)
    for one in three:
        assert one.parked() == 0
        assert not Depot.objects.using(one.alias).filter(slug="north").exists()
        assert not Crate.objects.using(one.alias).filter(uid=crate.uid).exists()
        assert parcels(one.alias) == {(parcel.uid, None, None, 3, None)}
    same(*three, labels=LABELS)


def test_a_protected_row_comes_back_with_all_that_it_refers_to(three):
    crate = Crate.objects.using("a").create(depot=depot("a", "north"))
    meet(*three, labels=LABELS)
    there = Crate.objects.using("b").get(uid=crate.uid)
    Parcel.objects.using("b").create(guarded=there)
    Depot.objects.using("a").filter(slug="north").delete()
    mend(*three, labels=LABELS)
    for one in three:
        assert one.parked() == 0
        assert Parcel.objects.using(one.alias).get().guarded.depot.slug == "north"
    same(*three, labels=LABELS)


def test_a_lost_reference_is_restored_as_a_number_of_this_replica(three):
    parcel = Parcel.objects.using("a").create()
    meet(*three, labels=LABELS)
    Parcel.objects.using("b").filter(uid=parcel.uid).update(depot=depot("b", "north"))
    three[1].post()
    post_save.send(Parcel)  # a moment later
    Parcel.objects.using("c").filter(uid=parcel.uid).update(depot=depot("c", "south"))
    meet(*three, labels=LABELS)
    assert {p[2] for one in three for p in parcels(one.alias)} == {"south"}
    conflict = next(found for one in three for found in Conflict.objects.using(one.alias))
    conflict.restore()
    meet(*three, labels=LABELS)
    assert {p[2] for one in three for p in parcels(one.alias)} == {"north"}
    same(*three, labels=LABELS)
    Parcel.objects.using("a").all().update(depot=None)
    Depot.objects.using("a").filter(slug="north").delete()
    meet(*three, labels=LABELS)
    with pytest.raises(CannotRestore, match="'north', to which depot refers, is not there"):
        conflict.restore()
    assert not Parking.objects.using(conflict._state.db).exists()


def test_another_key_of_a_row_that_others_refer_to_and_that_has_a_unique_value(three):
    """The row with the old key goes only once nobody refers to it, and the one with the new key needs its value."""
    row = Parcel.objects.using("a").create(code="x")
    part = Parcel.objects.using("a").create(part_of=row)
    meet(*three, labels=LABELS)
    Parcel.objects.using("a").filter(uid=row.uid).update(uid=uuid7())
    mend(*three, labels=LABELS)
    new = Parcel.objects.using("a").get(code="x").uid
    for one in three:
        assert one.parked() == 0
        assert parcels(one.alias) == {(new, "x", None, None, None), (part.uid, None, None, None, new)}
    same(*three, labels=LABELS)


@pytest.mark.on("sqlite", "postgresql", "mixed")
@seeded(1)
def test_random_histories(three, seed):
    """Clashes, deletes, moves and other keys at once: all come to the same tables, and to rest."""
    r = random.Random(seed)
    for _ in range(60):
        write(r, r.choice(three).alias)
        if r.random() < 0.15:
            one, other = r.sample(three, 2)
            one.pull(other, r.sample(LABELS, r.randint(1, 3)))
            one.retry_parked()
        if r.random() < 0.05:
            meet(*three, labels=LABELS)
            r.choice(three).repair(LABELS)
    mend(*three, labels=LABELS, rounds=10)
    meet(*three, labels=LABELS, rounds=3)
    same(*three, labels=LABELS)
