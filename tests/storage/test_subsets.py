"""Pools with a filter: what enters, what leaves, and what stays at home."""

from __future__ import annotations

import uuid

import pytest

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models import EntryStatus
from p2p_replication.models.where import canonical_where
from p2p_replication.protocol.changes import ChangedRow, pack_rows
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.row_state import RowState
from p2p_replication.protocol.verification import Outcome, compare
from p2p_replication.storage.subsets import subset_for
from p2p_replication.storage.unlogged import unlogged
from tests.replicas import TestReplica
from tests.storage.filtered_replica import FilteredReplica, create, exchange, notes, status
from tests.testapp.models import Note

NOTE = "testapp.Note"
STARRED = {"stars__gte": 3}

pytestmark = pytest.mark.on("sqlite", "postgresql")


@pytest.fixture
def replica_class() -> type[TestReplica]:
    return FilteredReplica


def test_only_rows_in_the_filter_replicate(members):
    a, b = members("ab")
    create(a, "in", 3)
    outside = create(a, "out", 2)
    exchange("starred", NOTE, a, b)
    assert notes(b) == {"in": 3}
    assert status(b, outside) is None
    assert a.sent_rows == 1


def test_a_push_has_only_rows_in_the_filter_and_claims_all(members):
    a, b = members("ab")
    create(a, "in", 3)
    create(a, "out", 2)
    a.post()
    b.take_in("starred", a, a.push_in("starred", NOTE, b))
    assert notes(b) == {"in": 3}
    assert b.vector_in("starred", NOTE) == {**a.vector_in("starred", NOTE)}
    assert b.pull_in("starred", NOTE, a)[0].changed == 0


def test_a_row_that_enters_is_sent_whole(members):
    a, b = members("ab")
    row = create(a, "moves", 1, body="text")
    exchange("starred", NOTE, a, b)
    Note.objects.using(a.alias).filter(pk=row.pk).update(stars=4)
    exchange("starred", NOTE, a, b)
    there = Note.objects.using(b.alias).get()
    assert (there.title, there.body, there.stars) == ("moves", "text", 4)
    assert there.updated_at == row.updated_at


def test_a_row_that_leaves_is_hidden_at_the_others_and_stays_where_it_was_edited(members):
    a, b, c = members("abc")
    row = create(a, "moves", 4, body="text")
    exchange("starred", NOTE, a, b, c)
    Note.objects.using(b.alias).filter(pk=row.pk).update(stars=1, body="private")
    exchange("starred", NOTE, a, b, c)
    assert notes(b) == {"moves": 1}
    assert notes(a) == notes(c) == {}
    assert status(a, row) == status(c, row) == EntryStatus.HIDDEN
    left = [sent.state for sent in b.sent["starred"] if sent.state.values.get("stars") == 1]
    assert left and all(state.values.keys() == {"stars"} and state.alive for state in left)


def test_it_comes_back_when_it_matches_again(members):
    a, b, c = members("abc")
    row = create(a, "moves", 4)
    exchange("starred", NOTE, a, b, c)
    Note.objects.using(b.alias).filter(pk=row.pk).update(stars=1)
    exchange("starred", NOTE, a, b, c)
    Note.objects.using(b.alias).filter(pk=row.pk).update(body="changed meanwhile")
    Note.objects.using(b.alias).filter(pk=row.pk).update(stars=5)
    exchange("starred", NOTE, a, b, c)
    assert notes(a) == notes(b) == notes(c) == {"moves": 5}
    assert Note.objects.using(a.alias).get().body == "changed meanwhile"


def test_a_new_member_is_told_of_a_row_that_has_left(members):
    """It may meet somebody later who has the row as it was."""
    a, b, late = members("abl")
    row = create(a, "moves", 4)
    exchange("starred", NOTE, a, b)
    Note.objects.using(b.alias).filter(pk=row.pk).update(body="an edit that a does not know")
    b.post()
    Note.objects.using(a.alias).filter(pk=row.pk).update(stars=1)
    late.pull_in("starred", NOTE, a)
    assert notes(late) == {}
    late.pull_in("starred", NOTE, b)
    assert notes(late) == {}
    assert status(late, row) == EntryStatus.HIDDEN


def test_an_edit_concurrent_with_the_leaving_counts_when_it_comes_back(members):
    a, b = members("ab")
    row = create(a, "moves", 4)
    exchange("starred", NOTE, a, b)
    Note.objects.using(a.alias).filter(pk=row.pk).update(stars=1)
    Note.objects.using(b.alias).filter(pk=row.pk).update(body="from b")
    exchange("starred", NOTE, a, b)
    assert Note.objects.using(a.alias).get().body == "from b"
    assert notes(b) == {}
    Note.objects.using(a.alias).filter(pk=row.pk).update(stars=3)
    exchange("starred", NOTE, a, b)
    assert Note.objects.using(b.alias).get().body == "from b"


def test_deletes_of_rows_in_the_pool_replicate_and_others_do_not(members):
    a, b = members("ab")
    shared, private, left = create(a, "in", 3), create(a, "out", 2), create(a, "left", 3)
    exchange("starred", NOTE, a, b)
    Note.objects.using(a.alias).filter(pk=left.pk).update(stars=0)
    exchange("starred", NOTE, a, b)
    Note.objects.using(a.alias).all().delete()
    exchange("starred", NOTE, a, b)
    assert notes(b) == {}
    assert status(b, shared) == status(b, left) == EntryStatus.DELETED
    assert status(b, private) is None


def test_rows_outside_of_the_filter_are_refused_and_the_vector_goes_on(members):
    a, b = members("ab")
    create(a, "in", 3)
    row = create(a, "out", 2)
    sneaky = a.members["starred", NOTE]
    everything = type(sneaky.subset)()
    a.members["starred", NOTE] = type(sneaky)(sneaky.declaration, everything)
    a.post()
    changes = a.push_in("starred", NOTE, b)
    applied = b.take_in("starred", a, changes)
    assert applied.refused == [b.site.key(row.pk)] and applied.taken
    assert notes(b) == {"in": 3}
    assert status(b, row) is None
    assert b.vector_in("starred", NOTE)[a.database.start] == changes.claim[a.database.start]


def test_a_row_that_is_outside_here_meets_an_older_one_inside(members):
    """Its state here was never told to anybody: now it is."""
    a, b, c = members("abc")
    row = create(a, "moves", 4)
    exchange("starred", NOTE, a, b)
    # By another way, a copy of the table say, c has the row, and moves it out.
    c.sql(
        "INSERT INTO testapp_note (id, title, body, stars, updated_at) VALUES (%s, 'moves', '', 1, %s)",
        [c.site.key(row.pk), "2026-01-01 00:00:00+00" if c.site.vendor == "postgresql" else "2026-01-01 00:00:00"],
    )
    exchange("starred", NOTE, a, b, c)
    assert notes(a) == notes(b) == {}
    assert notes(c) == {"moves": 1}


def test_a_digest_is_of_the_rows_in_the_pool(members):
    a, b = members("ab")
    create(a, "in", 3)
    create(a, "out", 2)
    create(b, "other", 1)
    left, gone = create(b, "left", 4), create(b, "gone", 4)
    exchange("starred", NOTE, a, b)
    Note.objects.using(a.alias).filter(pk=left.pk).update(stars=1)
    Note.objects.using(b.alias).filter(pk=gone.pk).delete()
    exchange("starred", NOTE, a, b)
    ours, theirs = a.digest_in("starred", NOTE), b.digest_in("starred", NOTE)
    assert (ours.unsettled, theirs.unsettled) == ("", "")
    assert compare(ours, theirs).outcome is Outcome.EQUAL
    with b.database.writing(), unlogged(b.database):
        b.sql("UPDATE testapp_note SET title = 'x' WHERE title = 'in'")
    assert compare(ours, b.digest_in("starred", NOTE)).outcome is Outcome.DIFFERENT


def test_at_rest_nothing_is_sent_again(members):
    a, b, c = members("abc")
    rows = [create(one, one.alias, 4) for one in (a, b, c)]
    create(a, "out", 1)
    exchange("starred", NOTE, a, b, c)
    Note.objects.using(b.alias).filter(pk=rows[0].pk).update(stars=1)
    Note.objects.using(c.alias).filter(pk=rows[2].pk).delete()
    exchange("starred", NOTE, a, b, c)
    for one in (a, b, c):
        one.start()
        one.sent_rows = 0
    exchange("starred", NOTE, a, b, c)
    assert [one.sent_rows for one in (a, b, c)] == [0, 0, 0]


def test_a_filter_by_a_field_that_is_gone_says_so(members):
    (a,) = members("a")
    with pytest.raises(ConfigurationError, match=r"testapp\.Note is filtered by colour, which its table does not have"):
        subset_for(a.database, a.stream(NOTE), '[["colour","exact","text","red"]]')


def test_a_field_that_a_row_lacks_counts_as_its_default(replica):
    """As in the tables, after the migration that has added it: a member that has not migrated yet wrote the row."""
    a, b = replica("a"), replica("b")
    for one in (a, b):
        one.declare("unstarred", NOTE, {"stars": 0})
    clock = a.database.now_ms() << 16
    values = {"title": "of an older schema", "body": "", "updated_at": "2026-01-01 00:00:00"}
    state = RowState(clock, -1, clock, values)
    row = ChangedRow(uuid.UUID(int=5).bytes, 1, {"0123456789abcdef": 1}, ("0123456789abcdef", 1), state)
    changes = Changes(NOTE, 1, 0, "0123456789abcdef", 0, 0, None, 0, {"0123456789abcdef": 1}, 0,
                      pack_rows(list(values), [row]))  # fmt: skip
    assert a.take_in("unstarred", a, changes).refused == []
    exchange("unstarred", NOTE, a, b)
    assert notes(a) == notes(b) == {"of an older schema": 0}
    Note.objects.using(b.alias).update(stars=1)
    exchange("unstarred", NOTE, a, b)
    assert (notes(a), notes(b)) == ({}, {"of an older schema": 1})


def test_a_default_that_is_another_one_each_time_is_none(members):
    (a,) = members("a")
    options = a.stream("testapp.Specimen").table.options
    for where, defaults in (
        ({"defaulted": 1}, {"defaulted": 7}), ({"blank": "x"}, {"blank": ""}), ({"small": 1}, {"small": None}),
    ):  # fmt: skip
        text = canonical_where(options, where)
        assert subset_for(a.database, a.stream("testapp.Specimen"), text).defaults == defaults


def test_a_merge_that_brings_a_row_in_is_told_to_those_who_had_both_halves(members):
    """They had one half as a retraction, without the field that was edited with it."""
    a, b, c = members("abc")
    row = create(a, "moves", 4, body="old")
    exchange("starred", NOTE, a, b, c)
    Note.objects.using(a.alias).filter(pk=row.pk).update(stars=1, body="edited when it left")
    b.pull_in("starred", NOTE, a)
    Note.objects.using(c.alias).filter(pk=row.pk).update(stars=5)
    b.pull_in("starred", NOTE, c)
    assert Note.objects.using(b.alias).get().body == "old"
    a.pull_in("starred", NOTE, c)
    b.pull_in("starred", NOTE, a)
    assert Note.objects.using(b.alias).get().body == "edited when it left"
    exchange("starred", NOTE, a, b, c)
    assert notes(a) == notes(b) == notes(c) == {"moves": 5}


def test_a_row_that_was_only_received_is_retracted_as_well(members):
    """Also if what came was nothing new: from then on a peer has it."""
    a, b = members("ab")
    row = create(b, "of b", 4)
    b.post()
    Note(pk=row.pk, title="of a", stars=4).save(using=a.alias, force_insert=True)
    a.pull_in("starred", NOTE, b)
    Note.objects.using(a.alias).update(stars=1)
    b.pull_in("starred", NOTE, a)
    assert (notes(a), notes(b)) == ({"of a": 1}, {})


def test_edits_that_a_delete_did_not_know_of_stay_private(members):
    a, b = members("ab")
    row = create(a, "moves", 4)
    exchange("starred", NOTE, a, b)
    Note.objects.using(a.alias).filter(pk=row.pk).delete()
    a.post()
    Note.objects.using(b.alias).filter(pk=row.pk).update(stars=1)
    Note.objects.using(b.alias).filter(pk=row.pk).update(body="private")
    b.pull_in("starred", NOTE, a)
    a.pull_in("starred", NOTE, b)
    assert status(a, row) == status(b, row) == EntryStatus.DELETED
    (told,) = [sent.state for sent in b.sent["starred"]]
    assert not told.alive and told.values == {"stars": 1}
    assert compare(a.digest_in("starred", NOTE), b.digest_in("starred", NOTE)).outcome is Outcome.EQUAL
