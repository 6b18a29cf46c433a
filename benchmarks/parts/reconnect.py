"""Two nodes with many equal rows meet again after a few changes."""

from __future__ import annotations

import time

from benchmarks import figures, machine
from benchmarks.figures import Figure
from benchmarks.nodes import connected_at, fill, linked, pid, run_in, site, start, wait

ROWS = 1_000_000
CHANGES = 10


def run(runs: int) -> list[Figure]:
    took, sent = [], []
    with site() as place:
        full = place.database()
        fill(full, "Item", f"items({ROWS})")
        a, b = place.node("a", full), place.node("b")
        start(a)
        time.sleep(2.0)
        idle = machine.memory(pid(a))
        start(b)
        ended = wait(lambda: b.count("items_item") >= ROWS, "the first sync", timeout=900, step=0.2)
        memory = max(machine.peak_memory(pid(a)), machine.peak_memory(pid(b))) - idle
        wait(lambda: linked(a) and linked(b), "both show it")
        speed = ROWS / (ended - connected_at(b))
        for i in range(runs):
            b.stop()
            a.stop()
            keys = run_in(
                a.site,
                "from benchmarks.items.models import Item\n"
                f"keys = list(Item.objects.values_list('pk', flat=True)[{i * 1000}:{i * 1000 + CHANGES}])\n"
                f"Item.objects.filter(pk__in=keys).update(rank={1_000_000 + i})\n"
                "print(*(key.hex for key in keys))",
            ).split()
            start(a)
            time.sleep(3)
            start(b)
            # By their keys: a look for a rank would read the whole table, and take longer than the changes.
            wanted = ", ".join(f"'{key}'" for key in keys)
            where = f"SELECT COUNT(*) FROM items_item WHERE id IN ({wanted}) AND rank = {1_000_000 + i}"
            ended = wait(lambda where=where: b.sql(where)[0][0] == CHANGES, "the changes", step=0.002)
            wait(lambda: linked(b), "B shows its peer")
            took.append((ended - connected_at(b)) * 1000)
            traffic = b.traffic()
            sent.append(traffic["channel_bytes_in"] + traffic["channel_bytes_out"])
    return [
        Figure("first sync", f"memory above idle, {ROWS:,} rows", "MiB", [memory], 150),
        Figure(figures.BY_ROWS, f"{ROWS:,}", "rows/s", [speed]),
        Figure("reconnect", f"{CHANGES} changes among {ROWS:,} rows, from the link on", "ms", took, 150),
        Figure("reconnect", "bytes, both ways", "B", sent, 5_000),
    ]
