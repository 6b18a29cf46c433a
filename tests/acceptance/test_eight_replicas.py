"""Eight replicas, four on SQLite and four on PostgreSQL, edit the same rows at random; two workers die meanwhile."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.nodes import Node, Process, until

pytestmark = [pytest.mark.acceptance, pytest.mark.alone, pytest.mark.timeout(300)]

ROWS = 200
SECONDS = 30
#: A writer aims at more, so that it surely gets to the 20 a second that are wanted.
RATE = 26
FIELDS = ("title", "body", "stars")
VENDORS = ("sqlite", "postgresql") * 4

#: Edits one field of one row at a time, and notes each write once it is committed.
WRITER = """
import json, random, sys, time
import django
django.setup()
from tests.testapp.models import Note
name, number, seconds, rate, path = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
draw = random.Random(name)
keys = sorted(Note.objects.values_list("pk", flat=True))
began, count = time.time(), 0
with open(path, "w") as log:
    while time.time() < began + seconds:
        count += 1
        field = draw.choice(["title", "body", "stars"])
        value = count * 8 + number if field == "stars" else f"{name} {count}"
        key, before = draw.choice(keys), time.time()
        if Note.objects.filter(pk=key).update(**{field: value}):
            print(json.dumps([key.hex, field, value, before]), file=log)
        time.sleep(max(0.0, began + count / rate - time.time()))
    print(json.dumps(["end", count, time.time() - began]), file=log)
"""


def held(node: Node) -> dict[str, dict[str, tuple[int, Any]]]:
    """Return ``{key: {field: (clock, value)}}`` as the database itself has it, read from outside."""
    ledger = {
        key.replace("-", ""): (inserted, deleted, clock, json.loads(clocks) if clocks else {})
        for key, inserted, deleted, clock, clocks in node.sql(
            "SELECT l.key, l.inserted, l.deleted, l.clock, l.field_clocks FROM p2p_replication_ledgerentry l "
            "JOIN p2p_replication_stream s ON s.id = l.stream WHERE s.label = 'testapp.Note'"
        )
    }
    found: dict[str, dict[str, tuple[int, Any]]] = {}
    for key, *values in node.sql(f"SELECT id, {', '.join(FIELDS)} FROM testapp_note"):
        key = str(key).replace("-", "")
        inserted, deleted, clock, clocks = ledger.pop(key)
        found[key] = {name: (clocks.get(name, clock), value) for name, value in zip(FIELDS, values, strict=True)}
        found[key]["life"] = (inserted, deleted)
    assert not ledger, f"{node.name} has versions of rows that are not in its table"
    return found


def test_eight_replicas_agree_and_come_to_rest(node: Callable[..., Node], tmp_path: Path) -> None:
    nodes = [node(f"n{i}", vendor=vendor) for i, vendor in enumerate(VENDORS)]
    first = nodes[0]
    first.django(
        f"from tests.testapp.models import Note\nNote.objects.bulk_create(Note(title=f'{{i}}') for i in range({ROWS}))"
    )
    for each in nodes:
        each.start()
    until(lambda: all(each.count() == ROWS for each in nodes), "everybody has the rows", 60)
    linked = "SELECT COUNT(*) FROM p2p_replication_peer WHERE state = 'connected'"
    until(lambda: all(each.sql(linked) == [(7,)] for each in nodes), "everybody is linked with everybody", 60)

    logs = [tmp_path / f"{each.name}.writes" for each in nodes]
    writers = [
        Process(
            ["-c", WRITER, each.name, str(number), str(SECONDS), str(RATE), str(log)],
            each.environment, tmp_path / f"{each.name}.writer",
        )
        for number, (each, log) in enumerate(zip(nodes, logs, strict=True))
    ]  # fmt: skip
    time.sleep(SECONDS / 3)
    victims = [random.choice(nodes[0::2]), random.choice(nodes[1::2])]
    for victim in victims:
        victim.kill()
    time.sleep(SECONDS / 6)
    for victim in victims:
        victim.start()
    for writer in writers:
        assert writer.popen.wait(SECONDS * 3) == 0, writer.output()

    # What is wanted: at most 10 s after the last write only heartbeats flow, for 10 s at least.
    ended = time.monotonic()
    time.sleep(max(0.0, ended + 10 - time.monotonic()))
    before = [each.traffic() for each in nodes]
    time.sleep(10)
    after = [each.traffic() for each in nodes]
    frames = [b["channel_frames_out"] - a["channel_frames_out"] for a, b in zip(before, after, strict=True)]
    heartbeats = [b["channel_bytes_out"] - a["channel_bytes_out"] for a, b in zip(before, after, strict=True)]

    states = [held(each) for each in nodes]
    for each, state in zip(nodes, states, strict=True):
        different = {key: (state.get(key), row) for key, row in states[0].items() if state.get(key) != row}
        assert not different and len(state) == ROWS, (
            f"{each.name} differs from n0 in {len(different)} rows: {different}"
        )
    assert frames == [0] * 8, f"frames that are no heartbeats, 10 to 20 s after the last write: {frames}"
    assert all(heartbeats), "the links are alive"
    said: dict[tuple[str, str], set[Any]] = {}
    for log in logs:
        *writes, (_, count, took) = map(json.loads, log.read_text().splitlines())
        assert count / took >= 20, f"{count} writes in {took:.1f} s"
        assert len(writes) == count
        for key, field, value, at in writes:
            clock, final = states[0][key][field]
            said.setdefault((key, field), set()).add(value)
            superseded = clock >> 16 >= int(at * 1000)
            assert final == value or superseded, f"{log.stem}: {field}={value!r} of {key} is lost: {final!r}"
    for (key, field), values in said.items():
        assert states[0][key][field][1] in values, "what is left was written by somebody"
    for each in nodes:
        assert each.stop() == 0
        assert " ERROR p2p_replication" not in each.log.read_text(), each.log.read_text()[-3000:]
