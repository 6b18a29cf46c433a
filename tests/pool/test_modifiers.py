"""``pull.modifier`` and ``push.modifier`` between replicas: what they may do, and that nobody else pays for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import p2p_replication
from p2p_replication.models import Declaration, LedgerEntry
from p2p_replication.transport.memory import MemoryHub
from tests.live_replicas import TOPIC, LiveReplica, linked, until
from tests.testapp import modifiers
from tests.testapp.models import Note

Live = Callable[..., LiveReplica]
pytestmark = pytest.mark.on("sqlite", "mixed")


async def declare(replica: LiveReplica, **options: Any) -> None:
    await replica.do(p2p_replication.sync_p2p, Note, TOPIC, **options)


async def start(replica: LiveReplica, **options: Any) -> None:
    await declare(replica, **options)
    await replica.start(declared=False)


async def declaration(replica: LiveReplica) -> Declaration:
    return await replica.do(Declaration.objects.get)


async def note(replica: LiveReplica, **lookups: Any) -> Any:
    return await replica.do(lambda: Note.objects.filter(**lookups).first())


@pytest.mark.parametrize("direction", ["push", "pull"])
async def test_refused_rows_are_counted_not_stored_and_not_asked_for_again(live: Live, direction: str) -> None:
    a, b = live("a"), live("b")
    secret = await a.create(title="secret plan")
    refuses = {direction: {"modifier": modifiers.no_secrets}}
    await start(a, **(refuses if direction == "push" else {}))
    await start(b, **(refuses if direction == "pull" else {}))
    await linked(a, b)
    await a.create(title="secret live")
    await a.create(title="public")
    await until(lambda: b.count(title="public"), "what is not refused arrives")
    assert await b.count() == 1
    assert await b.do(lambda: LedgerEntry.objects.count()) == 1
    counting, counted, last = (a, "refused_out", "last_refused_out") if direction == "push" else (
        b, "refused_in", "last_refused_in"
    )  # fmt: skip

    async def count() -> int:
        return getattr(await declaration(counting), counted)

    async def both() -> bool:
        return await count() == 2

    await until(both, "both are counted")
    shown = getattr(await declaration(counting), last)
    assert shown["peer"] == (b if direction == "push" else a).replica_id and shown["key"] and shown["at"]
    await b.stop()
    await b.start(declared=False)
    await linked(a, b)
    await a.create(title="after")
    await until(lambda: b.count(title="after"), "the next row arrives")
    assert await count() == 2, "refused rows were sent or asked for again"
    await a.do(Note.objects.filter(pk=secret.pk).update, title="known by now")
    await until(lambda: b.count(title="known by now"), "an edit that the modifier lets pass brings the row")
    await a.do(lambda: Note.objects.filter(title="secret live").delete())
    await a.do(lambda: Note.objects.filter(title="public").delete())
    await until(lambda: _nobody(b, title="public"), "deletes always pass")


async def _nobody(replica: LiveReplica, **lookups: Any) -> bool:
    return await replica.count(**lookups) == 0


@pytest.mark.parametrize("direction", ["push", "pull"])
async def test_what_one_replica_refuses_others_still_get(live: Live, hub: MemoryHub, direction: str) -> None:
    """b has a modifier and stands between: c must not believe that it has what b has left out."""
    a, b, c = live("a"), live("b"), live("c")
    await start(c)
    c_id = c.replica_id
    await c.stop()
    await a.create(title="secret plan")
    await a.create(title="public")
    await start(a)
    hub.partition([a.replica_id], [c_id])
    await start(b, **{direction: {"modifier": modifiers.no_secrets}})
    await until(lambda: b.count(title="public"), "b has what it takes")
    await c.start(declared=False)
    await until(lambda: c.count(title="public"), "c has it by way of b")
    assert await c.count() == 1
    hub.heal()
    await until(lambda: c.count(title="secret plan"), "c gets the rest from a itself")


async def test_rows_that_a_relay_held_back_come_when_its_modifier_goes(live: Live, hub: MemoryHub) -> None:
    """c's cursor stands above them by then."""
    a, b, c = live("a"), live("b"), live("c")
    await start(c)
    c_id = c.replica_id
    await c.stop()
    await a.create(title="secret plan")
    await a.create(title="public")
    await start(a)
    hub.partition([a.replica_id], [c_id])
    await start(b, push={"modifier": modifiers.no_secrets})
    await until(lambda: b.count(title="secret plan"), "b has everything")
    await c.start(declared=False)
    await until(lambda: c.count(title="public"), "c has what b gives")
    await a.stop()
    await declare(b)
    await until(lambda: c.count(title="secret plan"), "b gives everything now")


async def test_a_changed_value_never_replaces_the_original(live: Live) -> None:
    a, b = live("a"), live("b")
    await start(a, push={"modifier": modifiers.masked})
    await start(b)
    await linked(a, b)
    row = await a.create(title="abc")
    await until(lambda: b.count(title="zzz"), "b has the mask")
    await b.do(Note.objects.filter(pk=row.pk).update, stars=3)
    await until(lambda: a.count(stars=3), "b's edit of another field comes back, with the mask in the row")
    assert (await note(a, pk=row.pk)).title == "abc"
    await b.do(Note.objects.filter(pk=row.pk).update, title="written by b")
    await until(lambda: a.count(title="written by b"), "an edit is an edit")


async def test_a_mask_of_a_row_from_before_replication_is_left_out(live: Live) -> None:
    """There is no older clock that it could have."""
    a, b = live("a"), live("b")
    row = await a.create(title="abc")
    await a.sql("DELETE FROM p2p_replication_changelogentry")
    await a.sql("UPDATE p2p_replication_stream SET trigger_digest = ''")  # As if it had just been installed.
    await start(a, push={"modifier": modifiers.masked})
    await start(b)
    await until(lambda: b.count(pk=row.pk), "b has the row")
    assert (await note(b, pk=row.pk)).title == ""
    await b.do(Note.objects.filter(pk=row.pk).update, stars=3)
    await until(lambda: a.count(stars=3), "b's edit comes back")
    assert (await note(a, pk=row.pk)).title == "abc"


async def test_a_field_that_is_left_out_keeps_the_receivers_value(live: Live) -> None:
    a, b = live("a"), live("b")
    await start(a, push={"modifier": modifiers.without_body})
    await start(b)
    await linked(a, b)
    row = await a.create(title="t", body="a's own")
    await until(lambda: b.count(title="t"), "the row arrives")
    assert (await note(b, pk=row.pk)).body == ""
    await b.do(Note.objects.filter(pk=row.pk).update, stars=3)
    await until(lambda: a.count(stars=3), "b's edit comes back")
    assert (await note(a, pk=row.pk)).body == "a's own"
    await b.do(Note.objects.filter(pk=row.pk).update, body="b's")
    await until(lambda: a.count(body="b's"), "b may write the field")


async def test_a_pull_modifier_changes_what_is_stored_here_only(live: Live) -> None:
    a, b = live("a"), live("b")
    await start(a)
    await start(b, pull={"modifier": modifiers.shouting})
    await linked(a, b)
    row = await a.create(title="loud")
    await until(lambda: b.count(title="LOUD"), "b has it as it likes it")
    await b.do(Note.objects.filter(pk=row.pk).update, stars=3)
    await until(lambda: a.count(stars=3), "b's edit arrives")
    assert (await note(a, pk=row.pk)).title == "loud"


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("direction", ["push", "pull"])
@pytest.mark.parametrize(
    ("modifier", "text"),
    [
        (modifiers.broken, "LookupError: no rules today"),
        (modifiers.with_a_new_key, "ValueError: the key of a row can't be changed"),
        (modifiers.with_a_typo, "ValueError: tilte: no field of the row; there is: title"),
    ],
)
async def test_a_modifier_that_fails_stops_the_model_says_so_and_loses_nothing(
    live: Live, direction: str, modifier: Any, text: str
) -> None:
    a, b = live("a"), live("b")
    row = await a.create(title="one")
    replica = a if direction == "push" else b
    for one in (a, b):
        await start(one, **({direction: {"modifier": modifier}} if one is replica else {}))

    async def said(one: LiveReplica) -> bool:
        start = f"{direction}.modifier failed for the row {row.pk.hex} of testapp.Note: "
        return any(start + text in error for error in await one.errors())

    await until(lambda: said(a), "a says it")
    await until(lambda: said(b), "b says it")
    assert await b.count() == 0
    assert len(a.links) == 1, "other models go on"
    await declare(replica)
    await until(lambda: b.count(title="one"), "once it is mended the row comes")


async def test_what_one_pool_has_refused_another_does_not_claim(live: Live) -> None:
    """Both pools are about one ledger, so that each usually speaks for the other."""
    a, b = live("a"), live("b")
    await a.create(title="secret plan")
    await start(a)
    await b.do(p2p_replication.sync_p2p, Note, "another-team")
    await start(b, pull={"modifier": modifiers.no_secrets})
    await linked(a, b)

    def vectors() -> list[set[str]]:
        pools = [running.pool for running in b.supervisor.running.values()]  # type: ignore[union-attr]
        by_topic = {pool.setup.topic: pool.parts["testapp.Note"].vector() for pool in pools}
        return [set(by_topic[TOPIC]), set(by_topic["another-team"])]

    async def covered() -> bool:
        return bool((await b.supervisor.thread.run(vectors))[0])  # type: ignore[union-attr]

    await until(covered, "the pool with the modifier is through with a's row")
    assert (await b.supervisor.thread.run(vectors))[1] == set()  # type: ignore[union-attr]
