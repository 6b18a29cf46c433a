"""``rows_replicated`` and, on request, the model's own signals: what is told of rows that came in, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections
from django.db.models.signals import post_delete, post_save

from p2p_replication.models import Declaration
from p2p_replication.signals import rows_replicated
from tests.replicas import TestReplica
from tests.storage.conftest import meet
from tests.testapp.models import Book, Coin, Note, Shelf

pytestmark = pytest.mark.on("sqlite", "postgresql")


@contextmanager
def hearing(signal: Any, sender: Any = None) -> Iterator[list[dict[str, Any]]]:
    """Gather what a signal tells."""
    heard: list[dict[str, Any]] = []

    def receive(sender: Any, signal: Any, **told: Any) -> None:
        if "peer" not in told:
            return  # The application's own.
        assert not connections[told["using"]].in_atomic_block, "told before the commit"
        heard.append({"sender": sender, **told})

    signal.connect(receive, sender=sender, weak=False)
    try:
        yield heard
    finally:
        signal.disconnect(receive, sender=sender)


def with_signals(replica: TestReplica, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model asks for its own signals."""
    table = replica.stream(label).table
    monkeypatch.setattr(table, "options", replace(table.options, signals=True))


def test_each_batch_is_told_once_with_keys_in_groups(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    one, two = (Note.objects.using("a").create(title=t) for t in ("one", "two"))
    with hearing(rows_replicated) as heard:
        b.pull(a)
        b.database.arrivals.tell()
    (told,) = heard
    assert told["sender"] is Note
    assert sorted(told["keys"]) == sorted(told["inserted"]) == sorted([one.pk, two.pk])
    assert (told["updated"], told["deleted"]) == ([], [])
    assert (told["peer"], told["using"]) == (a.database.replica_id, "b")
    assert told["pool"] == Declaration.objects.using("b").get(pk=b.declarations["testapp.Note"]).pool
    Note.objects.using("a").filter(pk=one.pk).update(stars=3)
    Note.objects.using("a").filter(pk=two.pk).delete()
    three = Note.objects.using("a").create(title="three")
    with hearing(rows_replicated, Note) as heard:
        b.pull(a)
        b.database.arrivals.tell()
        b.database.arrivals.tell()
    (told,) = heard
    assert (told["inserted"], told["updated"], told["deleted"]) == ([three.pk], [one.pk], [two.pk])


def test_one_signal_a_batch_however_many_transactions_it_takes(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    Note.objects.using("a").bulk_create([Note(title=f"n{i}") for i in range(100)])
    b.database.budget.rows = lambda: 16
    with hearing(rows_replicated, Note) as heard:
        b.pull(a)
        b.database.arrivals.tell()
    assert [len(told["keys"]) for told in heard] == [100]


def test_what_changes_nothing_here_is_not_told(replica: Any, vendor: str) -> None:
    a, b, c = replica("a"), replica("b"), replica("c")
    Note.objects.using("a").create(title="one")
    meet(a, b, c)
    a.database.arrivals.tell()
    with hearing(rows_replicated) as heard:
        meet(a, b, c)
        for one in (a, b, c):
            one.database.arrivals.tell()
    assert heard == []


def test_own_writes_are_not_told(replica: Any, vendor: str) -> None:
    a = replica("a")
    with hearing(rows_replicated) as heard:
        Note.objects.using("a").create(title="one")
        a.post()
        a.database.arrivals.tell()
    assert heard == []


def test_a_parked_row_is_told_when_it_comes_in(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    book = Book.objects.using("a").create(title="t", shelf=shelf)
    with hearing(rows_replicated) as heard:
        b.pull(a, ("testapp.Book",))
        b.database.arrivals.tell()
        assert heard == []
        b.pull(a, ("testapp.Shelf",))
        b.retry_parked()
        b.database.arrivals.tell()
    first, second = heard
    assert (first["sender"], first["inserted"], first["peer"]) == (Shelf, [shelf.pk], a.database.replica_id)
    assert (second["sender"], second["inserted"], second["peer"], second["pool"]) == (Book, [book.pk], "", None)


def test_what_was_rolled_back_is_not_told(replica: Any, vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = replica("a"), replica("b")
    Note.objects.using("a").create(title="one")
    with hearing(rows_replicated) as heard:
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr("p2p_replication.storage.applier.settle_entry", lambda *args: 1 / 0)
            b.pull(a)
        b.database.arrivals.tell()
        assert heard == []
        b.pull(a)
        b.database.arrivals.tell()
        assert len(heard) == 1


def test_a_receiver_that_raises_breaks_nothing(replica: Any, vendor: str, caplog: pytest.LogCaptureFixture) -> None:
    a, b = replica("a"), replica("b")
    note = Note.objects.using("a").create(title="one")

    def broken(**told: Any) -> None:
        raise LookupError("the receiver's own fault")

    rows_replicated.connect(broken)
    try:
        with hearing(rows_replicated) as heard:
            b.pull(a)
            b.database.arrivals.tell()
    finally:
        rows_replicated.disconnect(broken)
    assert [told["keys"] for told in heard] == [[note.pk]], "others are told"
    assert Note.objects.using("b").count() == 1
    assert "the receiver's own fault" in caplog.text


def test_keys_are_python_values(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="EUR")
    with hearing(rows_replicated, Coin) as heard:
        b.pull(a, ("testapp.Coin",))
        b.database.arrivals.tell()
    assert heard[0]["keys"] == ["EUR"]


def test_nothing_is_gathered_where_nobody_listens(replica: Any, vendor: str) -> None:
    a, b = replica("a"), replica("b")
    Note.objects.using("a").create(title="one")
    with hearing(post_save, Note), hearing(post_delete, Note):  # The model has not asked for them.
        b.pull(a)
    assert b.database.arrivals._committed == b.database.arrivals._open == []


def test_the_models_own_signals_on_request(replica: Any, vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = replica("a"), replica("b")
    with_signals(b, "testapp.Note", monkeypatch)
    note = Note.objects.using("a").create(title="one")
    with hearing(post_save, Note) as saved, hearing(post_delete, Note) as deleted:
        b.pull(a)
        b.database.arrivals.tell()
        Note.objects.using("a").filter(pk=note.pk).update(stars=3)
        b.pull(a)
        b.database.arrivals.tell()
        Note.objects.using("a").filter(pk=note.pk).delete()
        b.pull(a)
        b.database.arrivals.tell()
    new, edited = saved
    assert (new["instance"], new["created"], new["raw"], new["update_fields"]) == (note, True, False, None)
    assert (edited["created"], edited["update_fields"], edited["instance"].stars) == (False, {"stars"}, 3)
    assert edited["peer"] == a.database.replica_id
    (gone,) = deleted
    assert (gone["instance"].pk, gone["instance"].title, gone["instance"].stars) == (note.pk, "one", 3)


def test_a_models_code_that_fails_on_loading_breaks_nothing(
    replica: Any, vendor: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = replica("a"), replica("b")
    with_signals(b, "testapp.Note", monkeypatch)
    note = Note.objects.using("a").create(title="one")
    b.pull(a)
    Note.objects.using("a").filter(pk=note.pk).delete()
    with hearing(post_delete, Note) as deleted, monkeypatch.context() as patch:
        patch.setattr(Note, "from_db", classmethod(lambda *args, **options: 1 / 0))
        b.pull(a)
        b.database.arrivals.tell()
    assert Note.objects.using("b").count() == 0
    assert deleted == []
    assert "can't be loaded" in caplog.text
