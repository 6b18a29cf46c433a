"""Multi-table inheritance: a row in two or three tables, whose key is that of its parent's row."""

from __future__ import annotations

import time

import pytest

from p2p_replication.models import Parking
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_links import assert_equal
from tests.storage.test_on_delete import mend
from tests.testapp.models import Eatery, Guest, Hotel, Passport, Person, Pizzeria, Place, Restaurant, Review, Tag

PARENTS = ("testapp.Place", "testapp.Restaurant", "testapp.Pizzeria")
LABELS = ("testapp.Tag", "testapp.Person", *PARENTS, "testapp.Place_tags", "testapp.Restaurant_guests",
          "testapp.Review", "testapp.Passport")  # fmt: skip
HOTELS = ("testapp.Place", "testapp.Hotel", "testapp.Guest", "testapp.Review")
pytestmark = pytest.mark.on("sqlite", "postgresql")


def pull_all(one: StorageReplica, other: StorageReplica, labels: tuple[str, ...] = LABELS) -> None:
    one.pull(other, labels)
    one.retry_parked()


def test_a_child_arrives_with_its_parents(replica):
    a, b = replica("a"), replica("b")
    made = Pizzeria.objects.using("a").create(name="Da Anna", town="Berlin", stars=2, kitchen="it", ovens=3)
    Place.objects.using("a").create(name="Park")
    meet(a, b, labels=LABELS)
    got = Pizzeria.objects.using("b").get(pk=made.pk)
    assert (got.name, got.town, got.stars, got.kitchen, got.ovens) == ("Da Anna", "Berlin", 2, "it", 3)
    assert Place.objects.using("b").count() == 2 and Restaurant.objects.using("b").count() == 1
    assert_equal(a, b, labels=LABELS)


@pytest.mark.parametrize("order", [PARENTS, PARENTS[::-1]])
def test_a_childs_rows_wait_for_their_parents(replica, order):
    a, b = replica("a"), replica("b")
    made = Pizzeria.objects.using("a").create(name="Da Anna", stars=2)
    b.pull(a, order[:1])
    if order is not PARENTS:
        assert Parking.objects.using("b").get().reason == "missing parent"
    b.pull(a, order[1:])
    b.retry_parked()
    assert Pizzeria.objects.using("b").get(pk=made.pk).stars == 2
    assert b.parked() == 0


def test_edits_of_two_tables_at_two_places_both_survive(replica):
    a, b = replica("a"), replica("b")
    made = Restaurant.objects.using("a").create(name="old", town="old", stars=1, kitchen="old")
    meet(a, b, labels=LABELS)
    other = Restaurant.objects.using("b").get(pk=made.pk)
    made.name, made.stars = "new", 5
    made.save(using="a")
    other.town, other.kitchen = "new", "it"
    other.save(using="b")
    meet(a, b, labels=LABELS)
    for using in "ab":
        got = Restaurant.objects.using(using).get(pk=made.pk)
        assert (got.name, got.town, got.stars, got.kitchen) == ("new", "new", 5, "it")
    assert_equal(a, b, labels=LABELS)


@pytest.mark.parametrize("order", [LABELS, LABELS[::-1]])
def test_a_delete_takes_all_tables(replica, order):
    a, b = replica("a"), replica("b")
    made = Pizzeria.objects.using("a").create(name="Da Anna")
    key = made.pk
    meet(a, b, labels=LABELS)
    Pizzeria.objects.using("b").get(pk=key).delete()
    pull_all(a, b, order)
    a.retry_parked()
    a.retry_parked()
    assert not Place.objects.using("a").exists()
    assert_equal(a, b, labels=LABELS)


def test_a_delete_that_keeps_the_parents_takes_the_child_only(replica):
    a, b = replica("a"), replica("b")
    made = Pizzeria.objects.using("a").create(name="Da Anna", stars=3)
    key = made.pk
    review = Review.objects.using("a").create(place_id=key, text="good")
    meet(a, b, labels=LABELS)
    made.delete(using="a", keep_parents=True)
    meet(a, b, labels=LABELS)
    assert not Pizzeria.objects.using("b").exists()
    assert Restaurant.objects.using("b").get(pk=key).stars == 3
    # What refers to the place does not hold up the restaurant in it.
    Restaurant.objects.using("a").get(pk=key).delete(keep_parents=True)
    meet(a, b, labels=LABELS)
    assert not Restaurant.objects.using("b").exists()
    assert Review.objects.using("b").get(pk=review.pk).place.name == "Da Anna"
    assert_equal(a, b, labels=LABELS)


def test_a_place_becomes_a_restaurant(replica):
    a, b = replica("a"), replica("b")
    place = Place.objects.using("a").create(name="Hall", town="Berlin")
    meet(a, b, labels=LABELS)
    there = Place.objects.using("b").get(pk=place.pk)
    restaurant = Restaurant(place_ptr=there, stars=4)
    restaurant.__dict__.update(there.__dict__)
    restaurant.save(using="b")
    meet(a, b, labels=LABELS)
    got = Restaurant.objects.using("a").get(pk=place.pk)
    assert (got.name, got.town, got.stars) == ("Hall", "Berlin", 4)
    assert_equal(a, b, labels=LABELS)


def test_a_new_child_of_a_parent_that_was_deleted_elsewhere_waits(replica):
    a, b = replica("a"), replica("b")
    place = Place.objects.using("a").create(name="Hall")
    key = place.pk
    meet(a, b, labels=LABELS)
    place.delete(using="a")
    Restaurant(place_ptr_id=key, stars=4).save_base(raw=True, using="b")
    meet(a, b, labels=LABELS)
    assert Parking.objects.using("a").get().reason == "missing parent"
    assert Parking.objects.using("b").get().reason == "still referenced"
    Restaurant.objects.using("b").get(pk=key).delete(keep_parents=True)
    meet(a, b, labels=LABELS)
    assert not Place.objects.using("b").exists()
    assert_equal(a, b, labels=LABELS)


def test_relations_to_parents_children_and_proxies(replica):
    a, b = replica("a"), replica("b")
    made = Restaurant.objects.using("a").create(name="Da Anna")
    tag, guest = Tag.objects.using("a").create(name="quiet"), Person.objects.using("a").create(name="Ben")
    made.tags.add(tag)
    made.guests.add(guest)
    Review.objects.using("a").create(place_id=made.pk, eatery_id=made.pk, text="good")
    b.pull(a, LABELS[::-1])
    b.retry_parked()
    meet(a, b, labels=LABELS)
    got = Restaurant.objects.using("b").get(pk=made.pk)
    assert [t.name for t in got.tags.all()] == ["quiet"]
    assert [g.name for g in got.guests.all()] == ["Ben"]
    assert [r.pk for r in Person.objects.using("b").get(pk=guest.pk).restaurants.all()] == [made.pk]
    review = Review.objects.using("b").get()
    assert type(review.eatery) is Eatery and review.eatery.name == "Da Anna"
    assert got.reviews.get() == review
    Eatery.objects.using("b").get(pk=made.pk).delete()
    meet(a, b, labels=LABELS, rounds=3)
    assert not Place.objects.using("a").exists()
    assert_equal(a, b, labels=LABELS)


def test_a_child_that_loses_a_clash_leaves_with_what_refers_to_it_and_its_place_stays(replica):
    a, b = replica("a"), replica("b")
    older = Hotel.objects.using("a").create(name="older", licence="1")
    time.sleep(0.002)
    younger = Hotel.objects.using("b").create(name="younger", licence="1")
    Guest.objects.using("b").create(hotel_id=younger.pk)
    Review.objects.using("b").create(place_id=younger.pk)
    meet(a, b, labels=HOTELS)
    for using in "ab":
        assert Hotel.objects.using(using).get().pk == older.pk
        assert Place.objects.using(using).count() == 2
        assert Review.objects.using(using).get().place_id == younger.pk
        assert not Guest.objects.using(using).exists()
    Hotel.objects.using("a").filter(pk=older.pk).update(licence="2")
    meet(a, b, labels=HOTELS)
    for one in (a, b):
        assert Guest.objects.using(one.alias).get().hotel.name == "younger"
        assert one.parked() == 0
    assert_equal(a, b, labels=HOTELS)


def test_a_deleted_child_that_is_protected_elsewhere_comes_back_with_its_place(replica):
    a, b = replica("a"), replica("b")
    made = Hotel.objects.using("a").create(name="Hall", licence="1")
    meet(a, b, labels=HOTELS)
    Guest.objects.using("b").create(hotel_id=made.pk)
    Hotel.objects.using("a").get().delete()
    mend(a, b, labels=HOTELS)
    for one in (a, b):
        assert Guest.objects.using(one.alias).get().hotel.name == "Hall"
        assert one.parked() == 0
    assert_equal(a, b, labels=HOTELS)


def test_writes_through_a_proxy_and_by_queryset(replica):
    a, b = replica("a"), replica("b")
    made = Eatery.objects.using("a").create(name="one", stars=1)
    meet(a, b, labels=LABELS)
    Eatery.objects.using("b").filter(pk=made.pk).update(name="two", stars=2)
    meet(a, b, labels=LABELS)
    got = Restaurant.objects.using("a").get()
    assert (got.name, got.stars) == ("two", 2)
    assert_equal(a, b, labels=LABELS)


def test_a_key_that_is_a_one_to_one(replica):
    a, b = replica("a"), replica("b")
    one = Person.objects.using("a").create(name="p")
    passport = Passport.objects.using("a").create(person=one, number="1")
    b.pull(a, ("testapp.Passport",))
    assert Parking.objects.using("b").get().reason == "missing parent"
    meet(a, b, labels=LABELS)
    assert Passport.objects.using("b").get(pk=passport.pk).number == "1"
    Passport.objects.using("b").update(number="2")
    meet(a, b, labels=LABELS)
    assert Passport.objects.using("a").get().number == "2"
    one.delete(using="a")
    meet(a, b, labels=LABELS)
    assert not Passport.objects.using("b").exists()
    assert_equal(a, b, labels=LABELS)
