"""What comes along with a declared model: parents in multi-table inheritance, automatic many-to-many tables."""

from __future__ import annotations

import pytest

from p2p_replication import sync_p2p
from p2p_replication.models import Declaration, Pool
from p2p_replication.models.companions import companion_labels
from p2p_replication.worker.setups import declare_registered_pools
from tests.testapp.models import Note, Person, Pizzeria, Place, Restaurant

pytestmark = pytest.mark.django_db
TOPIC = "field-team"
PERSON = {"testapp.Person_tags", "testapp.Person_friends", "testapp.Person_follows", "testapp.Person_languages"}
PLACE = {"testapp.Place_tags"}
RESTAURANT = {"testapp.Place", "testapp.Restaurant_guests", *PLACE}


def declared(**filters: str) -> set[str]:
    return set(Declaration.objects.filter(**filters).values_list("model", flat=True))


def test_who_comes_along() -> None:
    assert set(companion_labels("testapp.Person")) == PERSON
    assert set(companion_labels("testapp.Place")) == PLACE
    assert set(companion_labels("testapp.Restaurant")) == RESTAURANT
    assert set(companion_labels("testapp.Pizzeria")) == {"testapp.Restaurant", *RESTAURANT}
    assert companion_labels("testapp.Note") == companion_labels("nobody.Knows") == []


def test_a_model_brings_its_many_to_many_tables() -> None:
    Person.objects.sync_p2p(TOPIC, pull={"batch_size": 50})
    assert declared() == {"testapp.Person", *PERSON}
    assert declared(comes_with="testapp.Person") == PERSON
    assert {str(d.pull) for d in Declaration.objects.all()} == {"{'batch_size': 50}"}
    Person.objects.sync_p2p(TOPIC)
    assert {str(d.pull) for d in Declaration.objects.all()} == {"{}"}


def test_a_child_brings_its_parents() -> None:
    Pizzeria.objects.sync_p2p(TOPIC)
    assert declared() == {"testapp.Pizzeria", "testapp.Restaurant", *RESTAURANT}


def test_companions_go_with_the_last_one_that_brought_them() -> None:
    restaurants, pizzerias = sync_p2p(Restaurant, TOPIC), sync_p2p(Pizzeria, TOPIC)
    Declaration.objects.filter(model="testapp.Restaurant").update(vector={"aa": 5})
    restaurants.cancel()
    assert declared() == {"testapp.Pizzeria", "testapp.Restaurant", *RESTAURANT}
    assert Declaration.objects.get(model="testapp.Restaurant").vector == {"aa": 5}
    pizzerias.cancel()
    assert declared() == set()
    assert Pool.objects.get().cancelled_at is not None


def test_what_was_declared_on_its_own_stays() -> None:
    sync_p2p(Restaurant, TOPIC)
    place = sync_p2p(Place, TOPIC)
    sync_p2p(Restaurant, TOPIC).cancel()
    assert declared() == {"testapp.Place", *PLACE}
    place.cancel()
    assert declared() == set()


def test_options_of_the_pool_may_change_with_a_model_and_its_companions() -> None:
    sync_p2p(Person, TOPIC)
    assert sync_p2p(Person, TOPIC, is_peer_valid=None).pool.declarations.count() == 1 + len(PERSON)


def test_a_worker_brings_what_the_code_has_gained_since() -> None:
    sync_p2p(Person, TOPIC)
    sync_p2p(Note, TOPIC)
    Declaration.objects.filter(model="testapp.Person_tags").delete()
    Declaration.objects.create(pool=Pool.objects.get(), model="testapp.Gone_tags", comes_with="testapp.Person")
    declare_registered_pools()
    assert declared() == {"testapp.Person", "testapp.Note", *PERSON}
