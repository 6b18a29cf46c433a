"""What writes cost with capture, against the same writes to a plain model."""

from __future__ import annotations

import json

from benchmarks.figures import Figure
from benchmarks.nodes import Site, run_in, site

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

if connection.vendor == "sqlite":
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous={synchronous}")
found = {{"plain": [], "replicated": []}}
for i in range({runs}):
    for name, model in (("plain", PlainItem), ("replicated", Item)):
        found[name].append(measure(model, 10 * i + 1))
        model.objects.all().delete()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM p2p_replication_changelogentry")
print(json.dumps(found))
"""


#: Rows are written in pieces, and posted after each, as a running worker does.
_SIZE = """
from itertools import islice
from django.db import connection
from benchmarks.items import rows
from benchmarks.items.models import Item, PlainItem
from p2p_replication.storage.posting import post_all
from p2p_replication.storage.write_budget import WriteBudget
from p2p_replication.worker.opening import open_database

database = open_database()
database.budget = WriteBudget(1.0, 0.0)

def size():
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        else:
            cursor.execute("SELECT pg_database_size(current_database())")
        return cursor.fetchone()[0]

def growth(model):
    before = size()
    made = (model(**row) for row in rows.items({rows}))
    while chunk := list(islice(made, 1000)):
        model.objects.bulk_create(chunk)
        post_all(database)
    return size() - before

plain = growth(PlainItem)
print(growth(Item) / plain)
"""
SIZE_ROWS = 50_000


def run(runs: int) -> list[Figure]:
    figures = []
    for vendor in ("sqlite", "postgresql"):
        with site(vendor) as place:
            figures += _writes(place, runs, vendor, ("1.15", "1.5", "5"))
            if vendor == "sqlite":
                figures += _writes(place, runs, "sqlite with synchronous=NORMAL", ("", "", ""), "NORMAL")
            ratio = float(run_in(place.database(), _SIZE.format(rows=SIZE_ROWS)))
            figures.append(Figure("capture", f"database size, {vendor}", "times a plain table's", [ratio], 1.6))
    return figures


def _writes(place: Site, runs: int, name: str, goals: tuple[str, str, str], synchronous: str = "FULL") -> list[Figure]:
    """Write rows, durably as Django does by default; goals may be empty."""
    code = _WRITES.format(saves=SAVES, rows=ROWS, runs=max(runs, 3), synchronous=synchronous)
    found = json.loads(run_in(place.database(), code))
    figures = []
    for number, what in enumerate(("save()", f"bulk_create of {ROWS:,}", f"update() of {ROWS:,}")):
        pairs = zip(found["replicated"], found["plain"], strict=True)
        ratios = [with_capture[number] / plain[number] for with_capture, plain in pairs]
        goal = float(goals[number]) if goals[number] else None
        figures.append(Figure("capture", f"{what}, {name}", "times a plain model", ratios, goal))
    return figures
