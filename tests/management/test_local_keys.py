"""Running replicas whose rows have other primary keys everywhere: the whole way, and what the commands say of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from tests.live_replicas import LiveReplica, canonical_rows, linked, until
from tests.management.commands import on, run
from tests.management.test_verify import by_model
from tests.office.models import Errand
from tests.testapp.models import Crate, Depot

LABELS = ("testapp.Crate", "testapp.Depot", "office.Errand")
Live = Callable[..., LiveReplica]


@pytest.mark.on("sqlite", "mixed")
async def test_rows_with_local_keys_and_names_of_users_cross_live(live: Live) -> None:
    a, b = live("a"), live("b")

    def write(alias_name: str) -> None:
        for i in range(3 if alias_name == "b" else 0):
            Depot.objects.create(slug=f"only-b-{i}")
            User.objects.create(username=f"only-b-{i}")
        depot = Depot.objects.create(slug=f"from-{alias_name}")
        outer = Crate.objects.create(depot=depot, label=alias_name)
        Crate.objects.create(depot=depot, inside=outer, label=f"in {alias_name}")
        ana = User.objects.create(username=f"ana-{alias_name}")
        Errand.objects.create(title=alias_name, owner=ana)

    await a.do(write, "a")
    await b.do(write, "b")
    await a.start(*LABELS)
    await b.start(*LABELS)
    await linked(a, b)

    async def same() -> bool:
        rows = [await one.do(lambda: [canonical_rows(label) for label in LABELS[:2]]) for one in (a, b)]
        return len(rows[0][0]) == 4 and rows[0] == rows[1]

    await until(same, "depots and crates are the same on both")
    inner = Crate.objects.filter(label="in a", inside__label="a", depot__slug="from-a")
    assert await b.do(inner.count) == 1
    await until(lambda: b.count("office.Errand", title="a", owner=None), "the row is there, though not its owner")
    errand = await a.do(Errand.objects.get, title="a")
    history, error = await on(b, "explain", "office.Errand", str(errand.pk))
    assert error == "" and history["awaited"] == {"owner": 'auth.User ["ana-a"]'}
    printed, _ = await b.do(run, "explain", "office.Errand", str(errand.pk))
    assert 'owner is null until auth.User ["ana-a"] is there' in printed
    await b.do(User.objects.create, username="ana-a")
    assert b.supervisor is not None
    b.supervisor._retry.set()
    await until(lambda: b.count("office.Errand", owner__username="ana-a"), "the owner is set")

    async def verified() -> bool:
        answer, error = await on(a, "verify")
        return not error and {model["outcome"] for model in by_model(answer).values()} == {"equal"}

    await until(verified, "both hold the same, whatever their numbers are")
    history, error = await on(b, "explain", "testapp.Depot", "from-a")
    assert error == "" and history["in_table"] and history["changed_unseen"] == []
    crate = await a.do(Crate.objects.get, label="a")
    history, error = await on(b, "explain", "testapp.Crate", str(crate.uid))
    assert error == "" and history["in_table"]
    assert await a.parked() == await b.parked() == 0
