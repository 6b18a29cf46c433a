"""Many-to-many rows and inherited tables between running replicas: what is declared brings along what it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import p2p_replication
from p2p_replication.models import Pool, PoolHandle
from tests.live_replicas import TOPIC, LiveReplica, linked, until
from tests.management.commands import on
from tests.testapp.models import Person, Place, Restaurant, Tag

Live = Callable[..., LiveReplica]
LINK = "testapp.Person_tags"


def tag_somebody() -> tuple[Person, Tag]:
    one, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    one.tags.add(tag)
    return one, tag


def tags_of(key: Any) -> list[str]:
    return sorted(Tag.objects.filter(people=key).values_list("name", flat=True))


@pytest.mark.on("sqlite", "mixed")
async def test_tags_cross_and_go_with_what_is_deleted(live: Live) -> None:
    a, b = live("a"), live("b")
    one, tag = await a.do(tag_somebody)
    await a.start("testapp.Person", "testapp.Tag")
    await b.start("testapp.Person", "testapp.Tag")
    await linked(a, b)

    async def tags(replica: LiveReplica, *names: str) -> None:
        async def seen() -> bool:
            return await replica.do(tags_of, one.pk) == sorted(names)

        await until(seen, f"{replica.name} has the tags {names}")

    await tags(b, "t")
    new = await b.create("testapp.Tag", name="new")
    await b.do(lambda: Person.objects.get(pk=one.pk).tags.add(new))
    await tags(a, "new", "t")
    await b.do(lambda: Tag.objects.get(pk=tag.pk).delete())
    await tags(a, "new")
    await a.do(lambda: Person.objects.get(pk=one.pk).tags.clear())
    await tags(b)
    for replica in (a, b):
        await until(lambda r=replica: _is_zero(r), "nothing is parked")
        assert await replica.errors() == []


async def _is_zero(replica: LiveReplica) -> bool:
    return await replica.parked() == 0


async def test_a_child_works_on_the_first_try(live: Live) -> None:
    a, b = live("a"), live("b")
    made = await a.create("testapp.Restaurant", name="Da Anna", stars=3)
    await a.start("testapp.Restaurant")
    await b.start("testapp.Restaurant")
    await until(lambda: b.count("testapp.Restaurant", name="Da Anna", stars=3), "the restaurant arrives whole")
    await b.do(lambda: Restaurant.objects.get(pk=made.pk).delete())

    async def gone() -> bool:
        return not await a.count("testapp.Place")

    await until(gone, "the deletion of both rows arrives")
    assert await a.errors() == await b.errors() == []


async def test_wait_in_sync_waits_for_what_came_along(live: Live) -> None:
    a, b = live("a"), live("b")
    await a.start("testapp.Person", "testapp.Tag")
    await b.start("testapp.Person", "testapp.Tag")
    await linked(a, b)
    one, _ = await a.do(tag_somebody)
    handle = PoolHandle(await a.do(Pool.objects.get), Person)
    await a.do(handle.wait_in_sync, 20)
    # The link itself may still wait for the tag, which is another model's row.
    assert await b.do(lambda: Person.objects.filter(pk=one.pk).exists())
    known = await on(b, "explain", LINK, f"{one.pk}/{(await a.do(Tag.objects.get)).pk.hex}")
    assert known[0]["version"]["state"] == "alive"


async def test_verify_compares_links(live: Live) -> None:
    a, b = live("a"), live("b")
    one, tag = await a.do(tag_somebody)
    await a.start("testapp.Person", "testapp.Tag")
    await b.start("testapp.Person", "testapp.Tag")

    async def arrived() -> bool:
        return await b.do(tags_of, one.pk) == ["t"]

    await until(arrived, "the tag arrives")
    found, error = await on(a, "verify")
    (pool,) = found["pools"]
    assert error == "" and {m["model"]: m["outcome"] for m in pool["models"]}[LINK] == "equal"
    # One that is gone unseen is found, and named by its two ends.
    await b.sql("INSERT INTO p2p_replication_applying (id) VALUES (1)")
    await b.sql("DELETE FROM testapp_person_tags")
    await b.sql("DELETE FROM p2p_replication_applying")
    await b.sql("DELETE FROM p2p_replication_ledgerentry WHERE key = %s", f"{one.pk.hex}/{tag.pk.hex}")
    found, error = await on(a, "verify")
    (pool,) = found["pools"]
    (link,) = [m for m in pool["models"] if m["model"] == LINK]
    assert error and link["only_here"] == [f"{one.pk.hex}/{tag.pk.hex}"]


async def test_a_member_whose_code_has_no_such_field_goes_on_without(live: Live) -> None:
    a, b = live("a"), live("b")
    one, _ = await a.do(tag_somebody)
    await a.start("testapp.Person", "testapp.Tag")

    def without_links() -> None:
        p2p_replication.sync_p2p(Person, TOPIC)
        p2p_replication.sync_p2p(Tag, TOPIC)
        Pool.objects.get().declarations.filter(model=LINK).delete()

    await b.start("testapp.Place")
    await b.do(lambda: Place.objects.create(name="x"))
    await b.stop()
    await b.do(without_links)
    await b.start(declared=False)
    await until(lambda: b.count("testapp.Person", pk=one.pk), "the person arrives")
    assert await a.errors() == []
