"""The first sync of a full node with an empty one, and what stands beside it: Django's own writes, and zstd."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import msgspec
import zstandard

from benchmarks import machine
from benchmarks.figures import Figure
from benchmarks.items import rows
from benchmarks.nodes import Site, connected_at, fill, linked, pid, run_in, site, start, wait
from tests.databases import Database, SQLiteFile

ROWS = 100_000


@dataclass(frozen=True)
class Sync:
    """What one first sync took. CPU of the sender and the receiver; memory above idle, in MiB."""

    seconds: float
    cpu: tuple[float, float]
    bytes_out: int
    memory: tuple[float, float]


def sync(place: Site, full: Database, count: int, model: str = "Item") -> Sync:
    """Sync a copy of a full database into an empty one."""
    label, table = f"items.{model}", f"items_{model.lower()}"
    last = last_key(full, table)
    a, b = place.node("a", place.copy(full), (label,)), place.node("b", models=(label,))
    try:
        start(a)
        time.sleep(2.0)  # Until it is in the room, with all its modules.
        idle = machine.memory(pid(a))
        began_a = machine.cpu_seconds([pid(a)])
        start(b)
        # A look at one row, as counting them would cost more than the sync itself.
        ended = wait(lambda: b.sql(f"SELECT 1 FROM {table} WHERE id = %s", (last,)), "the rows", step=0.01)
        began = connected_at(b) if linked(b) else 0.0
        cpu = machine.cpu_seconds([pid(a)]) - began_a, machine.cpu_seconds([pid(b)])
        memory = machine.peak_memory(pid(a)) - idle, machine.peak_memory(pid(b)) - idle
        wait(lambda: linked(b), "B shows its peer")
        began = began or connected_at(b)
        if (found := b.count(table)) != count:
            raise RuntimeError(f"{found} of {count} rows have come")
        b.stop()
        a.stop()
        return Sync(ended - began, cpu, a.bytes_of_run()["channel_bytes_out"], memory)
    finally:
        place.end_nodes()


def last_key(database: Database, table: str) -> Any:
    """Return the key of the row that comes last: the one that was written last."""
    with closing(database.connect()) as connection:
        return connection.execute(f"SELECT id FROM {table} ORDER BY id DESC LIMIT 1").fetchall()[0][0]


def columns_compressed(database: Database, count: int) -> int:
    """Return the bytes of the same columns as zstd level 3 makes them, in batches of a thousand rows."""
    assert isinstance(database, SQLiteFile)
    with closing(sqlite3.connect(database.path)) as connection:
        cursor = connection.execute("SELECT id, title, body, done, rank, updated FROM items_item")
        compressor, total = zstandard.ZstdCompressor(level=3), 0
        while chunk := cursor.fetchmany(1_000):
            columns = [[bytes.fromhex(row[0]) for row in chunk], *([row[i] for row in chunk] for i in range(1, 6))]
            total += len(compressor.compress(msgspec.msgpack.encode(columns)))
    return total


def bulk_create_seconds(place: Site, count: int) -> float:
    """Return what ``bulk_create`` of the same rows into the second database takes."""
    return float(
        run_in(
            place.database(),
            "import time\n"
            "from itertools import islice\n"
            "from benchmarks.items import rows\n"
            "from benchmarks.items.models import PlainItem\n"
            f"made = [PlainItem(**row) for row in rows.items({count})]\n"
            "began = time.perf_counter()\n"
            "PlainItem.objects.bulk_create(made, batch_size=1000)\n"
            "print(time.perf_counter() - began)",
        )
    )


def executemany_seconds(place: Site, count: int) -> float:
    """Return what a raw ``executemany`` of the same rows takes, with Django's connection settings for durability."""
    database = place.database()
    assert isinstance(database, SQLiteFile)
    made = [
        (f"{i:032x}", row["title"], row["body"], row["done"], row["rank"], str(row["updated"]))
        for i, row in enumerate(rows.items(count))
    ]
    with closing(sqlite3.connect(database.path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        began = time.perf_counter()
        connection.executemany(
            "INSERT INTO items_plainitem (id, title, body, done, rank, updated) VALUES (?, ?, ?, ?, ?, ?)", made
        )
        connection.commit()
        return time.perf_counter() - began


def run(runs: int) -> list[Figure]:
    figures = []
    with site() as place:
        full = place.database()
        fill(full, "Item", f"items({ROWS})")
        least = columns_compressed(full, ROWS)
        syncs, bulk, raw = [], [], []
        for _ in range(runs):
            syncs.append(sync(place, full, ROWS))
            bulk.append(ROWS / bulk_create_seconds(place, ROWS))
            raw.append(ROWS / executemany_seconds(place, ROWS))
        figures += _of_syncs("SQLite", syncs, 12_000)
        size = [one.bytes_out / ROWS for one in syncs]
        figures.append(Figure("first sync", "bytes on the channel per row", "B", size))
        figures.append(
            Figure(
                "first sync",
                "against zstd -3 of the same columns",
                "times",
                [one.bytes_out / least for one in syncs],
                1.15,
            )
        )
        figures.append(Figure("first sync", "bulk_create of the same rows, plain model", "rows/s", bulk))
        figures.append(Figure("first sync", "executemany of the same rows", "rows/s", raw))
    with site("postgresql") as place:
        full = place.database()
        fill(full, "Item", f"items({ROWS})")
        figures += _of_syncs("PostgreSQL", [sync(place, full, ROWS) for _ in range(runs)], 10_000)
    return figures


def _of_syncs(where: str, syncs: Sequence[Sync], goal: float) -> list[Figure]:
    speed = [ROWS / one.seconds for one in syncs]
    return [
        Figure("first sync", f"{ROWS:,} rows, {where}", "rows/s", speed, goal, at_most=False),
        Figure("first sync", f"CPU of the sender, {where}", "s", [one.cpu[0] for one in syncs]),
        Figure("first sync", f"CPU of the receiver, {where}", "s", [one.cpu[1] for one in syncs]),
        Figure("first sync", f"memory above idle, {where}", "MiB", [max(one.memory) for one in syncs], 150),
    ]
