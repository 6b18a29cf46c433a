"""Notes when marked observations can be read: ``watch_marks.py <database> <prefix> <count> <timeout>``.

A process of its own that only reads the file, looking every millisecond. Prints ``ready``, then one line of JSON,
``{species: time_ns when it was first read}``.
"""

import json
import sqlite3
import sys
import time


def main(database: str, prefix: str, count: int, timeout: float) -> None:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20, isolation_level=None)
    # New rows only: the whole table need not be read at every commit.
    (last,) = connection.execute("SELECT coalesce(max(rowid), 0) FROM survey_observation").fetchone()
    version = None
    seen: dict[str, int] = {}
    deadline = time.monotonic() + timeout
    print("ready", flush=True)
    while len(seen) < count and time.monotonic() < deadline:
        (now,) = connection.execute("PRAGMA data_version").fetchone()
        if now != version:
            version = now
            rows = connection.execute(
                "SELECT rowid, species FROM survey_observation WHERE rowid > ? ORDER BY rowid", [last]
            ).fetchall()
            at = time.time_ns()
            for rowid, species in rows:
                last = rowid
                if species.startswith(prefix):
                    seen.setdefault(species, at)
        time.sleep(0.001)
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
