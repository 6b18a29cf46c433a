"""``manage.py p2p conflicts``: what lost is shown, and brought back."""

from __future__ import annotations

import json
from collections.abc import Callable

from p2p_replication.models import Conflict, Peer
from tests.management.commands import run, run_json
from tests.replicas import TestReplica
from tests.testapp.models import Note

NOTE = ("testapp.Note",)


def two_edits(replica: Callable[..., TestReplica]) -> tuple[TestReplica, TestReplica]:
    a, b = replica("a"), replica("b")
    Note.objects.using("a").create(title="first")
    b.pull(a, NOTE)
    for one in (a, b):
        Note.objects.using(one.alias).update(title=f"from {one.alias}\x1b[0m")
        one.post()
    Peer.objects.using("a").create(pool=a.pool, replica_id=b.database.replica_id, name="Node B")
    b.pull(a, NOTE)
    a.pull(b, NOTE)
    return a, b


def test_what_lost_is_shown_and_restored(replica: Callable[..., TestReplica]) -> None:
    a, b = two_edits(replica)
    loser = next(one for one in (a, b) if Conflict.objects.using(one.alias).exists())
    conflict = Conflict.objects.using(loser.alias).get()
    printed, error = run("conflicts", "--database", loser.alias)
    assert error == ""
    assert f"{conflict.pk}: testapp.Note " in printed and "lost      title = from" in printed
    assert "\x1b" not in printed and "this replica" in printed
    assert max(map(len, printed.splitlines())) <= 100
    answer, _ = run_json("conflicts", "testapp.note", "--database", loser.alias)
    (found,) = answer["conflicts"]
    assert (found["number"], found["fields"], found["kind"]) == (conflict.pk, ["title"], "overwritten")
    assert found["restored"] is None
    printed, error = run("conflicts", "--restore", str(conflict.pk), "--database", loser.alias)
    assert (error, "restored testapp.Note" in printed) == ("", True)
    assert Note.objects.using(loser.alias).get().title == conflict.lost_values["title"]
    assert run("conflicts", "--database", loser.alias)[0] == "No conflict is open.\n"
    assert "restored" in run("conflicts", "--all", "--database", loser.alias)[0]


def test_what_is_not_there_or_cannot_be_restored_is_told(replica: Callable[..., TestReplica]) -> None:
    a, b = two_edits(replica)
    loser = next(one for one in (a, b) if Conflict.objects.using(one.alias).exists())
    conflict = Conflict.objects.using(loser.alias).get()
    Note.objects.using(loser.alias).all().delete()
    _, error = run("conflicts", "--restore", "999999", str(conflict.pk), "--database", loser.alias)
    assert error == "Not restored: 2 of 2."
    assert Conflict.objects.using(loser.alias).open().count() == 1


def test_of_another_model_there_is_none(replica: Callable[..., TestReplica]) -> None:
    a, b = two_edits(replica)
    for one in (a, b):
        assert run("conflicts", "testapp.Book", "--database", one.alias)[0] == "No conflict of testapp.Book is open.\n"
        assert json.loads(run("conflicts", "testapp.Book", "--json", "--database", one.alias)[0]) == {"conflicts": []}
