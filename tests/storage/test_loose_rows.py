"""Rows of a pull that broke off, whose sender never came back (M6 of the model)."""

from __future__ import annotations

import datetime

from p2p_replication.storage.loose_rows import adopt_loose_rows
from tests.testapp.models import Note

NOTE = ("testapp.Note",)
AT_ONCE = datetime.timedelta(0)


def adopt(replica, connected=()) -> int:
    return adopt_loose_rows(
        replica.database, replica.stream(NOTE[0]), replica.declarations[NOTE[0]], connected, AT_ONCE
    )


def test_rows_of_a_pull_that_broke_off_are_announced_once_the_sender_is_gone(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    Note.objects.using("a").bulk_create(Note(title=f"n{i}") for i in range(5))
    b.pull(a, NOTE, batch_size=2, batches=1)
    assert b.vector(NOTE[0]) == {}
    assert adopt(b, connected=[a.database.replica_id]) == 0
    assert adopt(b) == 2
    assert b.vector(NOTE[0]).keys() == {b.database.start}
    c.pull(b, NOTE)
    assert Note.objects.using("c").count() == 2
    assert c.vector(NOTE[0]) == b.vector(NOTE[0])
    assert adopt(b) == 0


def test_a_sender_that_comes_back_sends_only_the_rest(replica):
    a, b = replica("a"), replica("b")
    Note.objects.using("a").bulk_create(Note(title=f"n{i}") for i in range(5))
    b.pull(a, NOTE, batch_size=2, batches=1)
    assert adopt(b) == 2
    b.pull(a, NOTE)
    assert a.sent_rows == 5
    a.pull(b, NOTE)
    assert a.rows() == b.rows()
    assert adopt(b) == 0


def test_rows_that_their_sender_has_forgotten_are_adopted(replica):
    """It was set back to a backup in the middle of a pull, and is there: but its claim does not speak of these rows."""
    a, b = replica("a"), replica("b")
    Note.objects.using("a").create(title="n0")
    a.post()
    backup = a.site.copy("backup")
    Note.objects.using("a").bulk_create(Note(title=f"n{i}") for i in range(1, 6))
    b.pull(a, NOTE, batch_size=2, batches=1)
    restored = replica("restored", backup)
    b.pull(restored, NOTE)
    assert adopt(b, connected=[restored.database.replica_id]) == 1
    restored.pull(b, NOTE)
    assert restored.canonical(NOTE[0]) == b.canonical(NOTE[0])
