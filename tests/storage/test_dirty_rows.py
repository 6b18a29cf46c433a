"""The application writes while a batch is read: a value never travels under the version before it."""

from __future__ import annotations

from django.db import connections

from p2p_replication.protocol.changes import unpack_rows
from p2p_replication.storage import clean_snapshots
from p2p_replication.storage.changes import read_changes, read_push
from p2p_replication.storage.posting import post
from tests.testapp.models import Note

NOTE = "testapp.Note"


class WriteBeforeSnapshot:
    """Another process commits a write just before a snapshot begins, so many times."""

    def __init__(self, replica, statement: str, times: int = 1) -> None:
        self.replica, self.statement, self.times = replica, statement, times

    def __call__(self, execute, sql, params, many, context):
        if sql == self.replica.database.vendor.begin_snapshot and self.times:
            self.times -= 1
            self.replica.outside(self.statement)
        return execute(sql, params, many, context)


def read(replica, after: int = 0):
    return read_changes(
        replica.database, replica.stream(NOTE), replica.declarations[NOTE], {}, after=after
    )  # fmt: skip


def test_a_row_written_between_posting_and_reading_travels_under_its_new_version(replica):
    a = replica("a")
    note = Note.objects.using("a").create(title="old")
    a.post()
    before = a.entry(note).counter
    with connections["a"].execute_wrapper(WriteBeforeSnapshot(a, "UPDATE testapp_note SET title = 'new'")):
        batch = read(a)
    (row,) = unpack_rows(batch.rows)
    assert row.state.values["title"] == "new"
    assert row.dots == {a.database.start: a.entry(note).counter}
    assert a.entry(note).counter > before


def restless(a):
    """A row that is written each time before it is read."""
    Note.objects.using("a").create(title="calm")
    a.post()
    Note.objects.using("a").create(title="restless")
    a.post()
    return WriteBeforeSnapshot(a, "UPDATE testapp_note SET stars = stars + 1 WHERE title = 'restless'", times=99)


def stars(rows):
    return [row.state.values["stars"] for row in unpack_rows(rows)]


def test_a_row_that_never_comes_to_rest_is_read_all_the_same(replica):
    a = replica("a")
    busy = restless(a)
    with connections["a"].execute_wrapper(busy):
        batch = read(a)
        push = read_push(a.database, a.stream(NOTE), 0)
    assert busy.times < 99 - 2
    assert stars(batch.rows) in ([0, 3], [0, 4])
    assert batch.vector is not None
    assert stars(push.rows)[1] == 99 - busy.times


def test_a_row_that_is_too_much_to_be_posted_is_cut_off_and_holds_up_nothing_before_it(replica, monkeypatch):
    a = replica("a")
    monkeypatch.setattr(clean_snapshots, "post", lambda database: None)
    busy = restless(a)
    with connections["a"].execute_wrapper(busy):
        batch = read(a)
        push = read_push(a.database, a.stream(NOTE), 0)
    assert stars(batch.rows) == [0]
    assert batch.vector is None
    assert push.rows is None
    rest = read(a, after=batch.to_seq)
    assert stars(rest.rows) == [99 - busy.times]
    assert rest.vector is not None


def test_the_transaction_that_posts_and_reads_sees_one_state(replica):
    a = replica("a")
    Note.objects.using("a").create(title="old")
    with a.database.writing(frozen=True):
        post(a.database)
        if a.site.vendor == "postgresql":
            a.outside("UPDATE testapp_note SET title = 'new'")
        with connections["a"].cursor() as cursor:
            cursor.execute("SELECT title FROM testapp_note")
            assert cursor.fetchall() == [("old",)]
    assert a.post().entries == (1 if a.site.vendor == "postgresql" else 0)


def test_a_push_holds_back_a_row_that_is_written_meanwhile(replica):
    a = replica("a")
    Note.objects.using("a").create(title="old")
    a.post()
    with connections["a"].execute_wrapper(WriteBeforeSnapshot(a, "UPDATE testapp_note SET title = 'new'")):
        push = read_push(a.database, a.stream(NOTE), 0)
    (row,) = unpack_rows(push.rows)
    assert (row.state.values["title"], row.dots) == ("new", {a.database.start: push.push_to})
