"""``manage.py p2p verify``: running replicas compare what they hold."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from django.utils import timezone

from p2p_replication.models import Pool
from p2p_replication.transport.memory import MemoryHub
from tests.live_replicas import LABELS, TOPIC, LiveReplica, equal, linked, until
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


async def keys_of(replica: LiveReplica) -> list[str]:
    return sorted(key for (key,) in await replica.sql("SELECT id FROM testapp_note"))


async def test_rows_that_differ_are_named(live: Live) -> None:
    a, b = await pair(live)
    keys = await keys_of(a)
    await past_the_triggers(b, "UPDATE testapp_note SET title = 'by hand' WHERE id = %s", keys[3])
    await past_the_triggers(b, "DELETE FROM testapp_note WHERE id = %s", keys[5])
    await b.sql("DELETE FROM p2p_replication_ledgerentry WHERE key = %s", keys[5])
    answer, error = await on(a, "verify")
    note = by_model(answer)["testapp.Note"]
    assert (note["outcome"], note["different"]) == ("different", [keys[3]])
    assert (note["only_here"], note["only_there"], note["more"]) == ([keys[5]], [], False)
    assert by_model(answer)["testapp.Book"]["outcome"] == "equal"
    assert error == f"Not found equal: {TOPIC}."
    answer, _ = await on(b, "verify")
    assert by_model(answer)["testapp.Note"]["only_there"] == [keys[5]]
    printed, _ = await a.do(run, "verify")
    assert f"different: {keys[3]}" in printed and f"only here: {keys[5]}" in printed
    assert "manage.py p2p explain testapp.Note KEY" in printed


async def test_of_many_rows_that_differ_some_are_named(live: Live) -> None:
    a, b = await pair(live)
    await past_the_triggers(b, "UPDATE testapp_note SET title = 'by hand'")
    answer, _ = await on(a, "verify")
    note = by_model(answer)["testapp.Note"]
    assert note["outcome"] == "different" and note["more"]
    assert 1 <= len(note["different"]) <= 10


async def test_while_changes_are_under_way_nothing_is_called_different(live: Live) -> None:
    a, b = await pair(live)
    with closing(sqlite3.connect(b.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # b can't apply what comes
        await a.create(title="on its way")
        answer, error = await on(a, "verify", "--timeout", "4")
        assert by_model(answer)["testapp.Note"]["outcome"] == "changes under way"
        assert "have not seen the same changes" in by_model(answer)["testapp.Note"]["text"]
        assert by_model(answer)["testapp.Shelf"]["outcome"] == "equal"
        assert error
        other.execute("ROLLBACK")
    await equal(a, b)
    answer, error = await on(a, "verify")
    assert by_model(answer)["testapp.Note"]["outcome"] == "equal"
    assert not error


async def test_under_constant_writes_on_both_sides_nothing_is_called_different(live: Live) -> None:
    a, b = await pair(live)
    over = asyncio.Event()

    async def write(replica: LiveReplica) -> None:
        while not over.is_set():
            await replica.sql("UPDATE testapp_note SET stars = stars + 1 WHERE title LIKE %s", "_1%")
            await asyncio.sleep(0.02)

    writers = [asyncio.create_task(write(replica)) for replica in (a, b)]
    # On a connection of its own, as the application's thread is busy with writing.
    reader = LiveReplica("a too", a.site)
    for _ in range(2):
        answer, _ = await on(reader, "verify", "--timeout", "6")
        outcomes = {label: model["outcome"] for label, model in by_model(answer).items()}
        assert outcomes["testapp.Note"] in ("equal", "changes under way")
        assert outcomes["testapp.Book"] == outcomes["testapp.Shelf"] == "equal"
    over.set()
    await asyncio.gather(*writers)
    await reader.close()
    await equal(a, b)
    answer, error = await on(a, "verify")
    assert not error


async def test_who_is_not_connected_is_not_compared(live: Live, hub: MemoryHub) -> None:
    a, b = await pair(live)
    b_id = b.replica_id

    async def shown_gone() -> bool:
        return not (await a.peers())[b_id].is_connected

    await until(lambda: with_peer(a, b_id), "b is shown")
    await b.stop()
    await until(shown_gone, "b is shown as gone")
    answer, error = await on(a, "verify")
    (pool,) = answer["pools"]
    assert (pool["models"], pool["problem"]) == ([], "no peer is connected")
    assert [peer["replica"] for peer in pool["not_connected"]] == [b_id]
    assert error
    printed, _ = await a.do(run, "verify")
    assert "not connected, last seen 20" in printed


async def with_peer(replica: LiveReplica, peer: str) -> bool:
    return peer in await replica.peers()


async def test_without_a_worker_it_says_how_to_start_one(live: Live) -> None:
    a = live("a")
    await a.start()
    await a.stop()
    answer, error = await on(a, "verify")
    assert "manage.py runp2psync" in answer["pools"][0]["problem"]
    assert error
    printed, error = await a.do(run, "verify", "--pool", "no such")
    assert (printed, error) == ("", f"There is no pool 'no such'; there is: {TOPIC}.")


async def test_a_model_that_the_peer_does_not_declare_is_not_comparable(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start()
    await b.start("testapp.Note")
    await linked(a, b)
    await a.create(title="n")
    await equal(a, b)
    answer, error = await on(a, "verify")
    found = by_model(answer)
    assert found["testapp.Note"]["outcome"] == "equal"
    assert found["testapp.Shelf"]["outcome"] == "not comparable"
    assert found["testapp.Shelf"]["text"] == "the peer does not declare it in this pool"
    assert not error, "what a peer does not replicate says nothing against the rest"


async def test_three_replicas_are_compared_with_each_other_at_the_same_time(live: Live) -> None:
    replicas = [live(name) for name in "abc"]
    for replica in replicas:
        await replica.create(title=replica.name)
        await replica.start()
    await linked(*replicas)
    await equal(*replicas)
    answers = await asyncio.gather(*(on(replica, "verify") for replica in replicas))
    for answer, error in answers:
        (pool,) = answer["pools"]
        assert {model["outcome"] for model in pool["models"]} == {"equal"}
        assert len({model["replica"] for model in pool["models"]}) == 2
        assert not error


async def test_a_worker_that_stops_in_the_middle_leaves_the_command_a_clear_answer(live: Live) -> None:
    a, _ = await pair(live)
    await a.stop()
    pool = await a.do(Pool.objects.get)
    later = timezone.now() + datetime.timedelta(seconds=5)
    await a.do(Pool.objects.filter(pk=pool.pk).update, lease_until=later, lease_holder="killed")
    answer, error = await on(a, "verify", "--timeout", "1")
    assert answer["pools"][0]["problem"] == "the worker has not answered within 1 s: allow more with --timeout"
    assert error
