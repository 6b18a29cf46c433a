"""``manage.py p2p verify``: running replicas compare what they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.live_replicas import LABELS, TOPIC, LiveReplica, equal, linked
from tests.management.commands import on, run
from tests.testapp.models import Note

Live = Callable[..., LiveReplica]


async def past_the_triggers(replica: LiveReplica, statement: str, *params: Any) -> None:
    """Write as no trigger sees it: as the applier does, whose marker they look at."""
    await replica.sql("INSERT INTO p2p_replication_applying (id) VALUES (1)")
    await replica.sql(statement, *params)
    await replica.sql("DELETE FROM p2p_replication_applying")


def by_model(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (pool,) = answer["pools"]
    return {model["model"]: model for model in pool["models"]}


async def pair(live: Live) -> tuple[LiveReplica, LiveReplica]:
    a, b = live("a"), live("b")
    await a.do(Note.objects.bulk_create, [Note(title=f"a{i}") for i in range(100)])
    await b.do(Note.objects.bulk_create, [Note(title=f"b{i}") for i in range(100)])
    await b.create("testapp.Shelf", name="s")
    await a.start()
    await b.start()
    await linked(a, b)
    await equal(a, b)
    return a, b


async def test_equal_replicas_are_found_equal(live: Live) -> None:
    a, b = await pair(live)
    note = await a.do(Note.objects.first)
    await a.do(note.delete)
    for replica in (a, b):
        answer, error = await on(replica, "verify")
        assert {label: model["outcome"] for label, model in by_model(answer).items()} == dict.fromkeys(LABELS, "equal")
        assert error == ""
    printed, error = await a.do(run, "verify", "--pool", TOPIC)
    assert "testapp.Note  equal" in printed
    assert error == ""


async def test_rows_that_differ_are_named(live: Live) -> None:
    a, b = await pair(live)
    keys = sorted(key for (key,) in await a.sql("SELECT id FROM testapp_note"))
    await past_the_triggers(
        b, "UPDATE testapp_note SET title = 'changed by hand' WHERE id = ?".replace("?", "%s"), keys[3]
    )
    answer, error = await on(a, "verify")
    note = by_model(answer)["testapp.Note"]
    assert (note["outcome"], note["different"]) == ("different", [keys[3]])
    assert (note["only_here"], note["only_there"], note["more"]) == ([], [], False)
    assert by_model(answer)["testapp.Book"]["outcome"] == "equal"
    assert error == f"Not found equal: {TOPIC}."
