"""``make bench``: run the parts, print the table, and keep it if it was a full run."""

from __future__ import annotations

import argparse
import importlib
import sqlite3
import sys
import time
import traceback
from collections.abc import Sequence

from benchmarks import figures, machine
from benchmarks.peers import morango, rxdb

PARTS = ("first_sync", "peers", "live", "reconnect", "pool", "capture", "start", "limits", "stages", "scaling")
RUNS = 5


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of: {', '.join(PARTS)} (all)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"medians of so many runs (default {RUNS})")
    parser.add_argument("--busy", action="store_true", help="measure though the machine is in use; nothing is written")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there is: {', '.join(PARTS)}")
    began, found, failed = time.monotonic(), [], []
    for name in options.parts or PARTS:
        if not options.busy:
            try:
                machine.check_at_rest()
            except machine.NotAtRest as error:
                print(error, file=sys.stderr)
                return 1
        print(f"{name} ...", file=sys.stderr, flush=True)
        part_began = time.monotonic()
        try:
            measured = importlib.import_module(f"benchmarks.parts.{name}").run(options.runs)
        except Exception:
            # The others' figures are worth having.
            traceback.print_exc()
            failed.append(name)
            continue
        print(figures.table(measured), flush=True)
        print(f"{name}: {time.monotonic() - part_began:.0f} s", file=sys.stderr, flush=True)
        found += measured
    if not options.parts and not options.busy:
        versions = {
            **machine.versions("Django", "aiortc", "zstandard", "psycopg"),
            "SQLite": sqlite3.sqlite_version,
            "RxDB": rxdb.VERSION,
            "Morango": morango.VERSION,
        }
        figures.write(found, machine.described(), versions, time.monotonic() - began, failed)
        importlib.import_module("benchmarks.plots").draw()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
