"""How speed and bytes grow with the table, with the row, and with the pool. One run each: for the plots."""

from __future__ import annotations

from benchmarks import figures
from benchmarks.figures import Figure
from benchmarks.nodes import Site, fill, site
from benchmarks.parts.first_sync import Sync, sync
from benchmarks.parts.pool import run_pool

#: What ``reconnect`` adds is a million.
TABLES = (1_000, 10_000, 100_000, 300_000)
WIDTHS = (10, 20, 30)
WIDE_ROWS = 20_000
POOLS = (2, 4, 8, 16)


def one(place: Site, model: str, kind: str, count: int) -> Sync:
    full = place.database()
    fill(full, model, kind)
    return sync(place, full, count, model)


def run(runs: int) -> list[Figure]:
    found = []
    with site() as place:
        for count in TABLES:
            done = one(place, "Item", f"items({count})", count)
            found.append(Figure(figures.BY_ROWS, f"{count:,}", "rows/s", [count / done.seconds]))
        widths = [(5, one(place, "Item", f"items({WIDE_ROWS})", WIDE_ROWS))]
        widths += [(width, one(place, f"Wide{width}", f"wide({WIDE_ROWS}, {width})", WIDE_ROWS)) for width in WIDTHS]
        for width, done in widths:
            found.append(Figure(figures.BY_FIELDS, str(width), "rows/s", [WIDE_ROWS / done.seconds]))
            found.append(Figure(figures.BYTES_BY_FIELDS, str(width), "B", [done.bytes_out / WIDE_ROWS]))
        for size in POOLS:
            found.append(Figure(figures.BY_POOL, str(size), "s", [run_pool(place, size).seconds]))
    return found
