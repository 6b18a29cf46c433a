"""``where=``: which lookups a filter takes, its canonical text, and what another filter means."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest

from p2p_replication import sync_p2p
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models import Declaration, Peer, PeerProgress, PullCursor
from p2p_replication.models.where import MAX_LENGTH, canonical_where, filter_digest
from p2p_replication.registry import registry
from tests.testapp.models import Book, Note, Sample, Shelf, Specimen, Tally

TOPIC = "field-team"
KEY = uuid.UUID("01900000-0000-7000-8000-000000000001")
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))


def text(model: Any, **where: Any) -> str:
    return canonical_where(registry.for_model(model), where)


@pytest.mark.parametrize(
    ("model", "where", "canonical"),
    [
        (Note, {"title": "a"}, [["title", "exact", "text", "a"]]),
        (Note, {"title__exact": "a"}, [["title", "exact", "text", "a"]]),
        (Note, {"title__startswith": "a%_"}, [["title", "startswith", "text", "a%_"]]),
        (Note, {"title__contains": "ä"}, [["title", "contains", "text", "ä"]]),
        (Note, {"stars__gte": 3}, [["stars", "gte", "integer", 3]]),
        (Note, {"stars": "3"}, [["stars", "exact", "integer", 3]]),
        (Note, {"stars__in": (3, 1, 3)}, [["stars", "in", "integer", [1, 3]]]),
        (Note, {"stars__in": {1: 0}.keys()}, [["stars", "in", "integer", [1]]]),
        (Note, {"title": "b", "stars": 1}, [["stars", "exact", "integer", 1], ["title", "exact", "text", "b"]]),
        (Note, {"updated_at__lt": MOMENT}, [["updated_at", "lt", "datetime", "2026-01-02 01:04:05.000060"]]),
        (Sample, {"flag": True}, [["flag", "exact", "boolean", True]]),
        (Sample, {"flag": None}, [["flag", "isnull", "", True]]),
        (Sample, {"flag__isnull": False}, [["flag", "isnull", "", False]]),
        (Sample, {"real__lte": -0.0}, [["real", "lte", "float", 0.0]]),
        (Sample, {"amount__gt": Decimal("-0.50")}, [["amount", "gt", "decimal", "-0.5"]]),
        (Sample, {"amount": Decimal("0.0000")}, [["amount", "exact", "decimal", "0"]]),
        (Sample, {"amount": 100}, [["amount", "exact", "decimal", "100"]]),
        (Sample, {"day": datetime.date(2026, 1, 2)}, [["day", "exact", "date", "2026-01-02"]]),
        (Sample, {"clock": datetime.time(1, 2)}, [["clock", "exact", "time", "01:02:00"]]),
        (Sample, {"span": datetime.timedelta(days=-1, microseconds=2)}, [["span", "exact", "duration", -86399999998]]),
        (Sample, {"ref": KEY}, [["ref", "exact", "uuid", KEY.hex]]),
        (Sample, {"ref__in": [str(KEY)]}, [["ref", "in", "uuid", [KEY.hex]]]),
        (Sample, {"data__isnull": True}, [["data", "isnull", "", True]]),
        (Sample, {"blob__isnull": True}, [["blob", "isnull", "", True]]),
        (Book, {"shelf": KEY}, [["shelf", "exact", "uuid", KEY.hex]]),
        (Book, {"shelf_id": KEY}, [["shelf", "exact", "uuid", KEY.hex]]),
        (Book, {"shelf": Shelf(pk=KEY)}, [["shelf", "exact", "uuid", KEY.hex]]),
        (Book, {"shelf__in": [Shelf(pk=KEY)]}, [["shelf", "in", "uuid", [KEY.hex]]]),
        (Specimen, {"price": "1.50"}, [["price", "exact", "integer", 150]]),
        (Specimen, {"address": "10.0.0.1"}, [["address", "exact", "text", "10.0.0.1"]]),
    ],
)
def test_a_filter_has_one_text(model: Any, where: dict[str, Any], canonical: list[Any]) -> None:
    assert json.loads(text(model, **where)) == canonical


def test_the_order_of_lookups_means_nothing() -> None:
    assert text(Note, title="b", stars=1) == text(Note, stars=1, title="b")
    assert text(Note, stars__in=[2, 1]) == text(Note, stars__in=[1, 2, 2])
    assert text(Note) == canonical_where(registry.for_model(Note), None) == ""


@pytest.mark.parametrize(
    ("model", "where", "why"),
    [
        (Note, {"titel": "a"}, "titel is no field of it.*Its fields are: title, body, stars, updated_at"),
        (Note, {"pk": KEY}, "pk is its key"),
        (Note, {"id": KEY}, "id is its key"),
        (Shelf, {"book": KEY}, "book leads to other rows"),
        (Book, {"shelf__name": "a"}, "looks at the row itself.*Copy what decides into a field of testapp.Book"),
        (Note, {"updated_at__year__gt": 2020}, "looks at the row itself"),
        (Note, {"updated_at__year": 2020}, "takes exact, in, lt, lte, gt, gte, isnull in a filter"),
        (Note, {"title__icontains": "a"}, "takes exact, in, startswith, contains, isnull in a filter"),
        (Note, {"title__lt": "a"}, "takes exact, in, startswith, contains, isnull"),
        (Note, {"title__regex": "a"}, "takes exact"),
        (Note, {"stars__contains": 1}, "takes exact, in, lt"),
        (Sample, {"data": {}}, "takes isnull in a filter"),
        (Sample, {"blob": b""}, "takes isnull in a filter"),
        (Sample, {"flag__gt": False}, "takes exact, in, isnull"),
        (Note, {"stars__isnull": 1}, "isnull takes True or False"),
        (Note, {"stars__in": 1}, "in takes a list"),
        (Note, {"title__in": "abc"}, "in takes a list"),
        (Note, {"stars__in": []}, "no row is in an empty list"),
        (Note, {"stars__in": [1, None]}, "rows without one are found by isnull"),
        (Note, {"stars__gt": None}, "rows without one are found by isnull"),
        (Note, {"stars": "many"}, "'many' is no value of a IntegerField, which stars has"),
        (Note, {"stars": 1.5}, "1.5 is no value of a IntegerField"),
        (Note, {"updated_at": datetime.datetime(2026, 1, 1)}, "with a time zone, as USE_TZ is on"),
        (Note, {"updated_at": datetime.date(2026, 1, 1)}, "give a datetime"),
        (Sample, {"real": float("nan")}, "is no value of a FloatField"),
        (Sample, {"amount": Decimal("Infinity")}, "is no value of a DecimalField"),
        (Sample, {"span": 5}, "is no value of a DurationField"),
        (Book, {"shelf": Note(pk=KEY)}, "shelf does not refer to a Note"),
        (Note, {"title": Note()}, "title does not refer to a Note"),
        (Tally, {"visits__gt": 5}, "visits has a declared merge"),
        (Note, {"title__in": [str(i) * 10 for i in range(MAX_LENGTH // 10)]}, "characters, 16000 are the most"),
    ],
)
def test_what_can_not_decide_alike_is_refused(model: Any, where: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        text(model, **where)


@pytest.mark.django_db
def test_the_filter_is_part_of_the_declaration() -> None:
    sync_p2p(Note, TOPIC, where={"stars__gte": 3})
    declaration = Declaration.objects.get()
    assert declaration.filter_text == '[["stars","gte","integer",3]]'
    assert declaration.filter_digest == filter_digest(declaration.filter_text)
    assert declaration.takes_over_since is None
    sync_p2p(Book, TOPIC)
    other = Declaration.objects.get(model="testapp.Book")
    assert (other.filter_text, other.filter_digest) == ("", "")
    with pytest.raises(ConfigurationError, match="where: titel"):
        sync_p2p(Note, TOPIC, where={"titel": 3})


@pytest.mark.django_db
def test_another_filter_empties_the_vector_and_cursors_and_the_same_one_does_not() -> None:
    handle = sync_p2p(Note, TOPIC, where={"stars__gte": 3})
    declaration = handle.declaration
    peer = Peer.objects.create(pool=handle.pool, replica_id="aa")

    def fill() -> None:
        Declaration.objects.update(vector={"aa": 5})
        PullCursor.objects.create(declaration=declaration, replica_id="aa", start="aa", sequence=5)
        PeerProgress.objects.create(declaration=declaration, peer=peer, acknowledged=5)

    fill()
    sync_p2p(Note, TOPIC, where={"stars__gte": 3}, pull={"batch_size": 5})
    assert Declaration.objects.get().vector == {"aa": 5} and PullCursor.objects.exists()
    for where in ({"stars__gte": 4}, None, {"stars__gte": 3}):
        sync_p2p(Note, TOPIC, where=where)
        changed = Declaration.objects.get()
        assert (changed.pk, changed.vector, changed.takes_over_since is None) == (declaration.pk, {}, False)
        assert changed.filter_text == canonical_where(registry.for_model(Note), where)
        assert not PullCursor.objects.exists() and not PeerProgress.objects.exists()
        fill()


@pytest.mark.django_db
def test_a_second_pool_with_another_filter_takes_over_what_the_first_has_brought() -> None:
    sync_p2p(Note, TOPIC)
    assert sync_p2p(Note, "same-rows").declaration.takes_over_since is None
    assert sync_p2p(Note, "few-rows", where={"stars": 1}).declaration.takes_over_since is not None
