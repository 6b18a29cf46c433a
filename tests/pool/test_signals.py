"""``rows_replicated`` as a running worker sends it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from p2p_replication.models import Pool
from p2p_replication.signals import rows_replicated
from tests.live_replicas import LiveReplica, linked, until
from tests.testapp.models import Note

Live = Callable[..., LiveReplica]


@pytest.mark.on("sqlite", "mixed")
async def test_a_running_worker_tells_of_rows_and_survives_its_receivers(live: Live) -> None:
    a, b = live("a"), live("b")
    heard: list[dict[str, Any]] = []

    def receive(sender: Any, **told: Any) -> None:
        titles = set(Note.objects.filter(pk__in=told["keys"]).values_list("title", flat=True))
        heard.append({**told, "titles": titles, "thread": threading.current_thread().name})
        Note.objects.filter(pk__in=told["inserted"]).update(body="seen")
        raise LookupError("the receiver's own fault")

    await a.start("testapp.Note")
    await b.start("testapp.Note")
    await linked(a, b)
    rows_replicated.connect(receive, sender=Note)
    try:
        note = await a.create(title="one")
        await until(lambda: a.count(body="seen"), "what the receiver on b wrote replicates")
    finally:
        rows_replicated.disconnect(receive, sender=Note)
    first = heard[0]
    assert (first["inserted"], first["titles"], first["peer"]) == ([note.pk], {"one"}, a.replica_id)
    assert isinstance(first["pool"], Pool) and first["pool"].topic == "field-team"
    assert first["thread"].startswith("p2p-database")
    assert len(a.links) == len(b.links) == 1 and a.alive and b.alive
