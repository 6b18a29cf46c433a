"""Waits until a table holds so many rows: ``watch_rows.py <database> <table> <rows> <seconds without progress>``.

A process of its own that only reads the file. Prints ``ready``, then ``{"ns": time of the last row, "rows": ...}``;
gives up when no row has come for the time given.
"""

import json
import sqlite3
import sys
import time


def main(database: str, table: str, wanted: int, patience: float) -> None:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20, isolation_level=None)
    query = f"SELECT count(*) FROM {table}"
    (rows,) = connection.execute(query).fetchone()
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    print("ready", flush=True)
    progress = time.monotonic()
    while rows < wanted and time.monotonic() - progress < patience:
        time.sleep(0.005)
        (now,) = connection.execute("PRAGMA data_version").fetchone()
        if now != version:
            version, before = now, rows
            (rows,) = connection.execute(query).fetchone()
            if rows != before:
                progress = time.monotonic()
    print(json.dumps({"ns": time.time_ns(), "rows": rows}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
