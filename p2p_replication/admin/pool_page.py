"""What the page of one pool shows, read from the database in one go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from p2p_replication.admin.status import Status, number, peer_status, pool_status, sync_status
from p2p_replication.models.ledger import ChangeLogEntry, EntryStatus, Gap, LedgerEntry, Stream
from p2p_replication.models.pool import Declaration, Peer, PeerProgress, Pool, PoolError
from p2p_replication.protocol.row_filter import RowFilter

#: No more lines than these; their total is shown.
PEERS = 200
ERRORS = 10
#: Counting further would read a long log every other second.
WAITING = 10_000


@dataclass(frozen=True)
class PeerLine:
    peer: Peer
    status: Status
    sync: Status
    rows_in: str
    rows_out: str

    @property
    def is_connected(self) -> bool:
        return self.status.kind == "good"


@dataclass(frozen=True)
class ModelLine:
    label: str
    #: Empty for a call of ``sync_p2p()``, else the class that declares it.
    source: str
    #: The filter as lookups, empty if there is none.
    filter: str
    stream: int | None
    parked: int
    #: Local changes that the worker has not numbered yet, as text: counted up to a limit.
    waiting: str
    #: Writes are not captured reliably until the triggers are renewed.
    has_gap: bool
    #: Empty if rows go both ways.
    direction: str
    #: What modifiers have refused.
    refusals: list[str]


@dataclass(frozen=True)
class ErrorLine:
    error: PoolError
    peer: str


def page_context(pool: Pool) -> dict[str, Any]:
    """Return the template context of ``admin/p2p_replication/pool/live.html``."""
    live = pool.has_live_worker and pool.cancelled_at is None
    declarations = list(pool.declarations.order_by("model"))
    streams = {s.label: s for s in Stream.objects.filter(label__in=[d.model for d in declarations])}
    # Not pool.peers: here each peer would carry this pool, which is what we want, but sorted by who is there.
    peers = list(pool.peers.order_by("name", "replica_id")[:PEERS])
    lines = list(_peer_lines(peers, live, declarations, streams))
    names = {peer.replica_id: str(peer) for peer in peers}
    errors = list(pool.errors.order_by("-at")[:ERRORS])
    return {
        "pool": pool,
        "live": live,
        "status": pool_status(pool),
        "peers": sorted(lines, key=lambda line: not line.is_connected),
        "connected": sum(line.is_connected for line in lines),
        "models": _model_lines(declarations, streams),
        "errors": [ErrorLine(error, names.get(error.replica_id, error.replica_id)) for error in errors],
        "error_total": number(pool.errors.count()),
    }


def _peer_lines(
    peers: list[Peer], live: bool, declarations: list[Declaration], streams: dict[str, Stream]
) -> Iterable[PeerLine]:
    progress: dict[int, list[PeerProgress]] = {}
    for item in PeerProgress.objects.filter(peer__in=peers):
        progress.setdefault(item.peer_id, []).append(item)
    last_own = {d.pk: _last_own(streams.get(d.model)) for d in declarations}
    for peer in peers:
        yield PeerLine(
            peer,
            peer_status(peer, live),
            sync_status(peer, live, progress.get(peer.pk, []), last_own),
            number(peer.rows_in),
            number(peer.rows_out),
        )


def _last_own(stream: Stream | None) -> int:
    """The last number given to a local change of the model."""
    return max(stream.own_vector.values(), default=0) if stream is not None else 0


def _model_lines(declarations: list[Declaration], streams: dict[str, Stream]) -> list[ModelLine]:
    ids = [stream.pk for stream in streams.values()]
    parked = dict(
        LedgerEntry.objects.filter(stream__in=ids, status=EntryStatus.PARKED)
        .values_list("stream")
        .annotate(Count("pk"))
        .order_by()
    )
    newest = ChangeLogEntry.objects.order_by("pk").values_list("stream", flat=True)[: WAITING + 1]
    waiting = Counter(newest)
    more = "+" if waiting.total() > WAITING else ""
    gaps = set(Gap.objects.filter(stream__in=ids, closed_at=None).values_list("stream", flat=True))
    found = []
    for declaration in declarations:
        stream = streams.get(declaration.model)
        number_of = stream.pk if stream is not None else 0
        found.append(
            ModelLine(
                label=declaration.model,
                source="" if declaration.source == "call" else declaration.source,
                filter=str(RowFilter.parse(declaration.filter_text)) if declaration.filter_text else "",
                stream=stream.pk if stream is not None else None,
                parked=parked.get(number_of, 0),
                waiting=number(waiting[number_of]) + (more if waiting[number_of] else ""),
                has_gap=stream is None or number_of in gaps,
                direction=declaration.direction,
                refusals=declaration.refusals(),
            )
        )
    return found
