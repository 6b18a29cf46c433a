"""Several filters over one model: in pools side by side, and one after the other."""

from __future__ import annotations

import datetime

import pytest

from p2p_replication.exceptions import ConfigurationError, FilterChanged
from p2p_replication.models import Declaration, EntryStatus, Pool
from p2p_replication.models.where import filter_columns
from p2p_replication.storage.loose_rows import adopt_loose_rows
from p2p_replication.storage.subsets import MAX_FILTERS, subset_for
from tests.replicas import TestReplica
from tests.storage.filtered_replica import FilteredReplica, create, exchange, notes, status
from tests.testapp.models import Note

NOTE = "testapp.Note"
STARRED = {"stars__gte": 3}

pytestmark = pytest.mark.on("sqlite", "postgresql")


@pytest.fixture
def replica_class() -> type[TestReplica]:
    return FilteredReplica


def test_two_pools_with_different_filters_share_what_both_include(members, replica):
    """The one in between is in both: what comes by one pool goes on in the other, as its own version."""
    a, between, b = (replica(name) for name in ("a", "between", "b"))
    for one in (a, between):
        one.declare("starred", NOTE, STARRED)
    for one in (between, b):
        one.declare("few", NOTE, {"stars__lt": 5})
    row = create(a, "three", 3)
    create(a, "seven", 7)
    create(a, "one", 1)
    exchange("starred", NOTE, a, between)
    exchange("few", NOTE, between, b)
    assert notes(between) == {"three": 3, "seven": 7}
    assert notes(b) == {"three": 3}
    assert between.vector_in("few", NOTE) == b.vector_in("few", NOTE)
    assert b.digest_in("few", NOTE).unsettled == ""
    # It leaves one pool, in which its editor is not, and stays in the other.
    Note.objects.using(b.alias).filter(pk=row.pk).update(stars=1)
    exchange("few", NOTE, between, b)
    assert notes(between) == {"three": 1, "seven": 7}
    exchange("starred", NOTE, a, between)
    assert notes(a) == {"seven": 7, "one": 1}


def test_a_pool_whose_filter_names_a_field_that_is_gone_stops_no_other(members):
    a, b = members("ab")
    pool = Pool.objects.using(b.alias).create(account="default", topic="of an older schema")
    text = '[["colour","exact","text","red"]]'
    Declaration.objects.using(b.alias).create(pool=pool, model=NOTE, **filter_columns(NOTE, text, b.alias))
    row = create(a, "moves", 4)
    exchange("starred", NOTE, a, b)
    assert notes(b) == {"moves": 4}
    Note.objects.using(a.alias).filter(pk=row.pk).update(stars=1)
    exchange("starred", NOTE, a, b)
    assert notes(b) == {}


def test_a_pool_without_a_filter_beside_one_with(members, replica):
    a, between, b = (replica(name) for name in ("a", "between", "b"))
    for one in (a, between):
        one.declare("everything", NOTE)
    for one in (between, b):
        one.declare("starred", NOTE, STARRED)
    row = create(a, "moves", 4)
    create(a, "out", 1)
    exchange("everything", NOTE, a, between)
    exchange("starred", NOTE, between, b)
    assert notes(b) == {"moves": 4}
    Note.objects.using(a.alias).filter(pk=row.pk).update(stars=2)
    exchange("everything", NOTE, a, between)
    exchange("starred", NOTE, between, b)
    assert notes(between) == {"moves": 2, "out": 1}
    assert notes(b) == {}
    Note.objects.using(a.alias).filter(pk=row.pk).delete()
    exchange("everything", NOTE, a, between)
    exchange("starred", NOTE, between, b)
    assert status(b, row) == EntryStatus.DELETED


def test_another_filter_empties_the_vector_and_begins_anew(members):
    a, b = members("ab")
    create(a, "three", 3)
    one = create(a, "one", 1)
    exchange("starred", NOTE, a, b)
    for replica in (a, b):
        before = replica.members["starred", NOTE]
        assert replica.vector_in("starred", NOTE)
        replica.declare("starred", NOTE, {"stars__lt": 2})
        assert replica.vector_in("starred", NOTE).keys() <= {a.database.start, b.database.start} - {
            other.database.start for other in (a, b) if other is not replica
        }
        replica.members["starred", NOTE], now = before, replica.members["starred", NOTE]
        with pytest.raises(FilterChanged):
            replica.vector_in("starred", NOTE)
        replica.members["starred", NOTE] = now
    exchange("starred", NOTE, a, b)
    assert notes(b) == {"three": 3, "one": 1}
    Note.objects.using(b.alias).filter(pk=one.pk).update(stars=0)
    exchange("starred", NOTE, a, b)
    assert notes(a) == {"three": 3, "one": 0}


def test_nothing_is_applied_for_a_filter_that_was_changed_meanwhile(members):
    a, b = members("ab")
    create(a, "three", 3)
    a.post()
    changes = a.push_in("starred", NOTE, b)
    before = b.members["starred", NOTE]
    b.declare("starred", NOTE, {"stars__gte": 2})
    b.members["starred", NOTE] = before
    with pytest.raises(FilterChanged, match=r"testapp\.Note was declared with another filter"):
        b.take_in("starred", a, changes)
    assert notes(b) == {}


def test_rows_that_came_by_another_pool_before_are_taken_over(members, replica):
    """No vector of the new pool speaks of their versions: they get one, once all has been pulled."""
    gone, a, b = replica("gone"), replica("a"), replica("b")
    for one in (gone, a):
        one.declare("everything", NOTE)
    create(gone, "four", 4)
    create(gone, "one", 1)
    exchange("everything", NOTE, gone, a)
    for one in (a, b):
        one.declare("starred", NOTE, STARRED)

    def adopt() -> int:
        member = a.members["starred", NOTE]
        now = datetime.timedelta(0)
        return adopt_loose_rows(a.database, a.stream(NOTE), member.declaration, (), now, member.subset)

    assert adopt() == 0, "before anybody was met"
    exchange("starred", NOTE, a, b)
    assert notes(b) == {"four": 4}
    assert b.digest_in("starred", NOTE).unsettled
    assert adopt() == 1
    assert adopt() == 0
    exchange("starred", NOTE, a, b)
    assert b.digest_in("starred", NOTE).unsettled == a.digest_in("starred", NOTE).unsettled == ""
    assert a.vector_in("starred", NOTE) == b.vector_in("starred", NOTE)


def test_there_is_room_for_so_many_filters(members):
    (a,) = members("a")
    for i in range(MAX_FILTERS - 1):
        subset = subset_for(a.database, a.stream(NOTE), f'[["stars","exact","integer",{i}]]')
        assert 0 < subset.bit < 2**MAX_FILTERS
    with pytest.raises(ConfigurationError, match="has had 62 filters"):
        subset_for(a.database, a.stream(NOTE), '[["stars","exact","integer",-1]]')
