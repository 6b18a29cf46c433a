"""``save()`` of models in multi-table inheritance: each table is written if something in it changed, and no further."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from tests.testapp.models import Eatery, Pizzeria, Place, Restaurant

pytestmark = pytest.mark.django_db


@pytest.fixture
def restaurant() -> Restaurant:
    return Restaurant.objects.create(name="one", town="two", stars=3, kitchen="four")


def now(restaurant: Place) -> tuple[str, str, int, str]:
    got = Restaurant.objects.get(pk=restaurant.pk)
    return got.name, got.town, got.stars, got.kitchen


@pytest.mark.parametrize("model", [Restaurant, Eatery])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "n"}, ["name"]),
        ({"stars": 9}, ["stars"]),
        ({"town": "n", "kitchen": "n"}, ["kitchen", "town"]),
        ({}, []),
    ],
)
def test_only_changed_columns_are_written_in_whichever_table(
    restaurant: Restaurant, written: Callable[..., Any], model: type[Restaurant], changes: Any, expected: list[str]
) -> None:
    loaded = model.objects.get(pk=restaurant.pk)
    for name, value in changes.items():
        setattr(loaded, name, value)
    with written() as columns:
        loaded.save()
    assert columns == expected
    got = Restaurant.objects.get(pk=restaurant.pk)
    assert all(getattr(got, name) == value for name, value in changes.items())


def test_a_stale_save_reverts_nothing_in_either_table(restaurant: Restaurant) -> None:
    loaded = Restaurant.objects.get(pk=restaurant.pk)
    Restaurant.objects.update(town="elsewhere", kitchen="elsewhere")
    loaded.name, loaded.stars = "mine", 9
    loaded.save()
    assert now(restaurant) == ("mine", "elsewhere", 9, "elsewhere")


def test_one_that_was_just_made_is_changed_in_both_tables(restaurant: Restaurant) -> None:
    restaurant.name, restaurant.stars = "new", 9
    restaurant.save()
    assert now(restaurant) == ("new", "two", 9, "four")


def test_three_tables(written: Callable[..., Any]) -> None:
    made = Pizzeria.objects.create(name="one", stars=1, ovens=1)
    loaded = Pizzeria.objects.get(pk=made.pk)
    loaded.name, loaded.stars, loaded.ovens = "n", 2, 3
    with written() as columns:
        loaded.save()
    assert columns == ["name", "ovens", "stars"]
    with written() as columns:
        loaded.save()
    assert columns == []
    got = Pizzeria.objects.get(pk=made.pk)
    assert (got.name, got.stars, got.ovens) == ("n", 2, 3)


def test_what_a_rolled_back_save_wrote_is_written_again(restaurant: Restaurant) -> None:
    loaded = Restaurant.objects.get(pk=restaurant.pk)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        loaded.name, loaded.stars = "new", 9
        loaded.save()
        raise ZeroDivisionError
    loaded.save()
    assert now(restaurant) == ("new", "two", 9, "four")


def test_named_fields_of_either_table(restaurant: Restaurant, written: Callable[..., Any]) -> None:
    loaded = Restaurant.objects.get(pk=restaurant.pk)
    loaded.name, loaded.stars, loaded.kitchen = "new", 9, "new"
    with written() as columns:
        loaded.save(update_fields=["name", "stars"])
    assert columns == ["name", "stars"]
    with written() as columns:
        loaded.save()
    assert columns == ["kitchen"]


def test_a_deferred_field_of_the_parent_is_left_alone(restaurant: Restaurant, written: Callable[..., Any]) -> None:
    loaded = Restaurant.objects.defer("town", "kitchen").get(pk=restaurant.pk)
    loaded.stars = 9
    with written() as columns:
        loaded.save()
    assert not {"town", "kitchen"} & set(columns)
    assert now(restaurant) == ("one", "two", 9, "four")


def test_a_place_that_becomes_a_restaurant_reverts_nothing(written: Callable[..., Any]) -> None:
    place = Place.objects.create(name="one", town="two")
    loaded = Place.objects.get(pk=place.pk)
    Place.objects.update(town="elsewhere")
    restaurant = Restaurant(place_ptr=loaded, stars=9)
    restaurant.__dict__.update(loaded.__dict__)
    with written() as columns:
        restaurant.save()
    assert not {"name", "town"} & set(columns)
    assert now(restaurant) == ("one", "elsewhere", 9, "")
    restaurant.name, restaurant.stars = "new", 1
    restaurant.save()
    assert now(restaurant) == ("new", "elsewhere", 1, "")


def test_the_parents_own_instance_writes_its_table_only(restaurant: Restaurant, written: Callable[..., Any]) -> None:
    place = Place.objects.get(pk=restaurant.pk)
    place.name = "new"
    with written() as columns:
        place.save()
    assert columns == ["name"]
    assert now(restaurant) == ("new", "two", 3, "four")
