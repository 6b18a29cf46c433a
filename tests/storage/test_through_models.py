"""Explicit through models: rows like any others."""

from __future__ import annotations

import pytest

from p2p_replication.models import Parking
from tests.storage.conftest import meet
from tests.storage.test_links import assert_equal
from tests.testapp.models import Club, Membership, Person

LABELS = ("testapp.Person", "testapp.Club", "testapp.Membership")
pytestmark = pytest.mark.on("sqlite", "postgresql")


def test_rows_with_their_extra_fields(replica):
    a, b = replica("a"), replica("b")
    one, club = Person.objects.using("a").create(name="p"), Club.objects.using("a").create(name="c")
    one.clubs.add(club, through_defaults={"role": "guest"})
    b.pull(a, LABELS[::-1])
    assert b.retry_parked() == 1
    there = Person.objects.using("b").get()
    assert [c.name for c in there.clubs.all()] == ["c"]
    Membership.objects.using("b").update(role="chair")
    meet(a, b, labels=LABELS)
    assert Membership.objects.using("a").get().role == "chair"
    there.clubs.clear()
    meet(a, b, labels=LABELS)
    assert not one.clubs.exists()
    assert_equal(a, b, labels=LABELS)


def test_edits_of_a_membership_at_two_places_and_its_removal_at_a_third(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    one, clubs = Person.objects.using("a").create(), [Club.objects.using("a").create(name=str(i)) for i in range(2)]
    one.clubs.set(clubs, through_defaults={"role": "guest"})
    meet(a, b, c, labels=LABELS)
    Membership.objects.using("a").filter(club=clubs[0]).update(role="chair")
    Membership.objects.using("b").filter(club_id=clubs[0].pk).update(club=Club.objects.using("b").create(name="new"))
    Person.objects.using("c").get().clubs.remove(clubs[1].pk)
    meet(a, b, c, labels=LABELS)
    for using in "abc":
        got = Membership.objects.using(using).get()
        assert (got.role, got.club.name) == ("chair", "new")
    assert_equal(a, b, c, labels=LABELS)


def test_a_membership_is_deleted_with_its_end(replica):
    a, b = replica("a"), replica("b")
    one, club = Person.objects.using("a").create(), Club.objects.using("a").create(name="c")
    one.clubs.add(club)
    meet(a, b, labels=LABELS)
    Club.objects.using("b").get().delete()
    meet(a, b, labels=LABELS)
    assert not Membership.objects.using("a").exists()
    assert_equal(a, b, labels=LABELS)


def test_the_same_pair_made_twice_is_two_rows_of_which_the_constraint_lets_in_one(replica):
    """The rows have keys of their own: unlike links of an automatic table they clash, and nothing is lost."""
    a, b = replica("a"), replica("b")
    one, club = Person.objects.using("a").create(), Club.objects.using("a").create(name="c")
    meet(a, b, labels=LABELS)
    one.clubs.add(club, through_defaults={"role": "a"})
    there = Person.objects.using("b").get()
    there.clubs.add(club.pk, through_defaults={"role": "b"})
    meet(a, b, labels=LABELS)
    assert Membership.objects.using("a").count() == Membership.objects.using("b").count() == 1
    assert Parking.objects.using("a").exists() or Parking.objects.using("b").exists()
    assert len(a.entries("testapp.Membership")) == len(b.entries("testapp.Membership")) == 2
    # Whoever takes one of the two away lets the other one in.
    Membership.objects.using("a").all().delete()
    meet(a, b, labels=LABELS, rounds=3)
    assert Membership.objects.using("a").get() == Membership.objects.using("b").get()
    assert_equal(a, b, labels=LABELS)
