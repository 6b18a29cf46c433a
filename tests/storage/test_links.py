"""Many-to-many rows of automatic tables: known by their two ends, whatever their own number is."""

from __future__ import annotations

import pytest
from django.db import transaction

from p2p_replication.models import Parking
from p2p_replication.storage.link_rows import bury_links
from tests.storage.conftest import StorageReplica, meet
from tests.testapp.models import Coin, Person, Shelf, Tag

LINKS = "testapp.Person_tags"
LABELS = ("testapp.Tag", "testapp.Coin", "testapp.Person", LINKS, "testapp.Person_friends", "testapp.Person_follows",
          "testapp.Person_coins")  # fmt: skip
pytestmark = pytest.mark.on("sqlite", "postgresql", "mixed")


def person(using: str, name: str = "p") -> Person:
    return Person.objects.using(using).create(name=name)


def tags(using: str, *names: str) -> list[Tag]:
    return [Tag.objects.using(using).create(name=name) for name in names]


def names(using: str, one: Person) -> set[str]:
    return set(Person.objects.using(using).get(pk=one.pk).tags.values_list("name", flat=True))


def there(using: str, one: Person) -> Person:
    return Person.objects.using(using).get(pk=one.pk)


def assert_equal(*replicas: StorageReplica, labels: tuple[str, ...] = LABELS) -> None:
    """All tables are equal, nothing is parked, and nothing is left to say."""
    for label in labels:
        for other in replicas[1:]:
            assert replicas[0].canonical(label) == other.canonical(label), label
    assert [one.parked() for one in replicas] == [0] * len(replicas)
    for one in replicas:
        assert one.post().entries == 0
        assert one.site.broken_references() == []
        one.sent_rows = 0
    meet(*replicas, labels=labels)
    assert [one.sent_rows for one in replicas] == [0] * len(replicas)


def test_add_remove_set_and_clear_arrive(replica):
    a, b = replica("a"), replica("b")
    one, (x, y, z) = person("a"), tags("a", "x", "y", "z")
    one.tags.add(x, y)
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"x", "y"}
    one.tags.remove(x)
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"y"}
    there("b", one).tags.set([x.pk, z.pk])
    meet(a, b, labels=LABELS)
    assert names("a", one) == {"x", "z"}
    Tag.objects.using("a").get(pk=z.pk).people.clear()
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"x"}
    there("b", one).tags.clear()
    meet(a, b, labels=LABELS)
    assert names("a", one) == set()
    assert_equal(a, b)
