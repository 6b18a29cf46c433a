"""Which of two rows is the older one, by a rule that every replica comes to by itself.

A row can't be in the table before the rows that it refers to, so it is as old as the youngest of them. Without that an
older row could take a value from a row that it depends on, and no outcome would be right.
"""

from __future__ import annotations

from collections import defaultdict

from p2p_replication.protocol.clock import MAX_CLOCK
from p2p_replication.protocol.row_state import order_of
from p2p_replication.storage.ledger import load_entries
from p2p_replication.storage.referrers import Row, parents_of
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.versions import state_of

#: ``(inserted clock, model, key)`` of a row and all rows that it depends on, the youngest first. Older is smaller.
Seniority = tuple[tuple[int, str, bytes], ...]


def seniority(database: ReplicaDatabase, row: Row) -> Seniority:
    """Return what a row's age is compared by. A row without a version yet is younger than any other."""
    ages: dict[Row, tuple[int, str, bytes]] = {}
    wanted = {row}
    while wanted:
        by_stream: dict[int, list[str]] = defaultdict(list)
        for number, key in wanted:
            by_stream[number].append(key)
        wanted = set()
        for number, keys in by_stream.items():
            stream = database.by_number[number]
            entries = load_entries(database.connection, stream.id, keys)
            rows = stream.table.read(keys)
            for key in keys:
                entry = entries.get(key)
                inserted = entry.inserted if entry is not None else MAX_CLOCK
                ages[Row(number, key)] = (inserted, stream.label, order_of(stream.table.key_to_wire(key)))
                if entry is not None:
                    wanted.update(parents_of(database, stream, key, state_of(stream, entry, rows.get(key)).values))
        wanted -= ages.keys()
    return tuple(sorted(ages.values(), reverse=True))
