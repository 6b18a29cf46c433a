"""What writes cost with capture, against the same writes to a plain model."""

from __future__ import annotations

import json

from benchmarks.figures import Figure
from benchmarks.nodes import run_in, site

ROWS = 10_000
SAVES = 500
_WRITES = """
import json, time
from django.db import connection, transaction
from django.utils import timezone
from benchmarks.items import rows
from benchmarks.items.models import Item, PlainItem

def timed(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began

def saves(model, made):
    for values in made:
        model(**values).save()

def measure(model, seed):
    made = list(rows.items({saves}, seed=seed))
    save = timed(lambda: saves(model, made)) / {saves}
    many = [model(**values) for values in rows.items({rows}, seed=seed + 1)]
    create = timed(lambda: model.objects.bulk_create(many))
    update = timed(lambda: model.objects.update(rank=seed))
    return save, create, update

found = {{"plain": [], "replicated": []}}
for i in range({runs}):
    for name, model in (("plain", PlainItem), ("replicated", Item)):
        found[name].append(measure(model, 10 * i + 1))
        model.objects.all().delete()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM p2p_replication_changelogentry")
print(json.dumps(found))
"""


def run(runs: int) -> list[Figure]:
    figures = []
    for vendor in ("sqlite", "postgresql"):
        with site(vendor) as place:
            code = _WRITES.format(saves=SAVES, rows=ROWS, runs=max(runs, 3))
            found = json.loads(run_in(place.database(), code))
        for number, (name, goal) in enumerate(
            (("save()", 1.15), (f"bulk_create of {ROWS:,}", 1.5), (f"update() of {ROWS:,}", 5.0))
        ):
            ratios = [
                with_capture[number] / plain[number]
                for with_capture, plain in zip(found["replicated"], found["plain"], strict=True)
            ]
            figures.append(Figure("capture", f"{name}, {vendor}", "times a plain model", ratios, goal))
    return figures
