"""Loose rows: taken from a pull that never reached its end, as the sender went away in the middle.

This replica's vector does not cover them, so that others, who compare vectors, would not learn of them. Once the
sender has been gone for a while they get a dot of this replica's own beside the ones they have.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence

from django.db.models import Q
from django.utils import timezone

from p2p_replication.models.ledger import EntryStatus
from p2p_replication.models.pool import Declaration, PullCursor
from p2p_replication.protocol.version_vector import covers
from p2p_replication.storage.ledger import COLUMNS, TABLE, Entry, save_entries
from p2p_replication.storage.posting import give_dots
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.subsets import EVERYTHING, Share, Subset
from p2p_replication.storage.vectors import vector_of
from p2p_replication.storage.versions import state_of

#: How long a sender may be gone before its loose rows are adopted.
GRACE = datetime.timedelta(seconds=30)
PAGE = 1_000


def adopt_loose_rows(
    database: ReplicaDatabase,
    stream: StreamStore,
    declaration: int,
    connected: Collection[str],
    grace: datetime.timedelta = GRACE,
    subset: Subset = EVERYTHING,
) -> int:
    """Give own dots to the rows of pulls whose senders are gone; return how many.

    Likewise to the rows that came by pools with another filter, before this declaration had its own.

    Args:
        connected: replica ids of the peers that may still finish their pulls.
    """
    cursors, long_ago = PullCursor.objects.using(database.alias), timezone.now() - grace
    left = Q(unfinished_since__lt=long_ago) & ~Q(replica_id__in=connected)
    broken = Q(broken_since__lt=long_ago, unfinished_since=None)
    gone = list(cursors.filter(left | broken, declaration_id=declaration).values_list("pk", flat=True))
    declarations = Declaration.objects.using(database.alias).filter(pk=declaration)
    takes_over = declarations.filter(takes_over_since__lt=long_ago).exists() and _has_pulled(database, declaration)
    if not gone and not takes_over:
        return 0
    adopted, after, ended = 0, 0, False
    with database.snapshot():
        last = database.sequence()
    while not ended:
        with database.writing():
            entries = [entry for entry in _page(database, stream, after) if entry.seq <= last]
            ended = len(entries) < PAGE
            after = entries[-1].seq if entries else after
            vector = vector_of(database, stream, declaration, subset)
            loose = [
                entry
                for entry in entries
                if not covers(vector, {database.origin_id(origin): c for origin, c in entry.dots().items()})
            ]
            loose = _shared(stream, subset, loose)
            if loose:
                give_dots(database, stream, loose, keep=not takes_over)
                save_entries(database.connection, stream.id, loose)
                database.note_changed([stream.label])
                adopted += len(loose)
    with database.writing():
        # With an own dot the rows are found by the vector; the cursor stays for when the sender comes back.
        PullCursor.objects.using(database.alias).filter(pk__in=gone).update(unfinished_since=None, broken_since=None)
        if takes_over:
            declarations.update(takes_over_since=None)
    return adopted


def _has_pulled(database: ReplicaDatabase, declaration: int) -> bool:
    """Tell whether a peer's whole delta is here, and no other one's is on its way: most is covered by then."""
    pulls = PullCursor.objects.using(database.alias).filter(declaration_id=declaration)
    return pulls.exists() and not pulls.exclude(unfinished_since=None).exists()


def _shared(stream: StreamStore, subset: Subset, entries: Sequence[Entry]) -> list[Entry]:
    """Leave out the rows that the subset's peers are told nothing of."""
    if subset.filter is None:
        return [entry for entry in entries if entry.status != EntryStatus.HIDDEN]
    rows = stream.table.read([entry.key for entry in entries])
    return [
        entry
        for entry in entries
        if subset.share(entry.status, entry.subsets, state_of(stream, entry, rows.get(entry.key))) is not Share.NOTHING
    ]


def _page(database: ReplicaDatabase, stream: StreamStore, after: int) -> list[Entry]:
    with database.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE stream = %s AND seq > %s ORDER BY seq LIMIT %s",
            [stream.id, after, PAGE],
        )
        return [Entry.load(record) for record in cursor.fetchall()]
