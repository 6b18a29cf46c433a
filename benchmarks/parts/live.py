"""A ``save()`` at one node until another process can read it at the other one."""

from __future__ import annotations

import json
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing

from benchmarks.figures import Figure
from benchmarks.nodes import SETTINGS, Site, fill, linked, site, start, wait
from tests.acceptance.nodes import Node, environment

SAVES = 1_000
PAUSE = 0.015
BESIDE = 100_000
_WRITER = """
import json, sys, time, django
django.setup()
from django.utils import timezone
from benchmarks.items.models import Other
stamps = {{}}
for i in range({count}):
    row = Other(title=f"live {{i}}", body="b", updated=timezone.now())
    row.save()
    stamps[row.id.hex] = time.time()
    time.sleep({pause})
print(json.dumps(stamps))
"""


def latencies(a: Node, b: Node, count: int) -> list[float]:
    """Save rows at A, one after another; return the milliseconds from each commit until B's file shows it."""
    assert b.site.vendor == "sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER.format(count=count, pause=PAUSE)],
        env={**a.environment, **environment(a.site, settings=SETTINGS)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen: dict[str, float] = {}
    with closing(sqlite3.connect(b.path, isolation_level=None)) as connection:
        while len(seen) < count:
            for (key,) in connection.execute("SELECT id FROM items_other WHERE rowid > ?", [len(seen)]).fetchall():
                seen.setdefault(key, time.time())
            if writer.poll() not in (None, 0):
                raise RuntimeError("the writer failed")
            time.sleep(0.0005)
    stamps = json.loads(writer.communicate()[0])
    return sorted((seen[key] - at) * 1000 for key, at in stamps.items())


def percentile(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]


def pair(place: Site) -> tuple[Node, Node]:
    nodes = place.node("a", models=("items.Item", "items.Other")), place.node("b", models=("items.Item", "items.Other"))
    start(*nodes)
    wait(lambda: linked(nodes[1]), "the two are linked")
    time.sleep(1.0)
    return nodes


def run(runs: int) -> list[Figure]:
    idle, beside = [], []
    with site() as place:
        for _ in range(runs):
            idle.append(latencies(*pair(place), SAVES))
            place.end_nodes()
        full = place.database()
        fill(full, "Item", f"items({BESIDE})")
        for _ in range(runs):
            both = ("items.Item", "items.Other")
            a, b = place.node("a", place.copy(full), both), place.node("b", models=both)
            start(a, b)
            wait(lambda b=b: b.count("items_item") > 0, "the first sync has begun")
            beside.append(latencies(a, b, 200))
            place.end_nodes()
    return [
        Figure("live", f"p50 of {SAVES:,} saves", "ms", [statistics.median(run) for run in idle], 8),
        Figure("live", f"p99 of {SAVES:,} saves", "ms", [percentile(run, 0.99) for run in idle], 25),
        Figure(
            "live", f"p99 during a first sync of {BESIDE:,} rows", "ms", [percentile(run, 0.99) for run in beside], 100
        ),
    ]
