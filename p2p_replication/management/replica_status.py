"""How replication stands, gathered from the database: the replica, its pools and peers, its models, recent errors."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from django.db.models import Count
from django.utils import timezone

from p2p_replication.conf import app_settings
from p2p_replication.management.layout import replica_name
from p2p_replication.management.row_filters import count_shared
from p2p_replication.models.conflict import Conflict
from p2p_replication.models.ledger import ChangeLogEntry, EntryStatus, Gap, LedgerEntry, Stream
from p2p_replication.models.pool import Declaration, Peer, PeerProgress, PeerState, Pool, PoolError
from p2p_replication.models.replica import Replica
from p2p_replication.protocol.row_filter import RowFilter
from p2p_replication.registry import registry
from p2p_replication.storage.capture import installation

#: Errors that are shown: of this time, so many of a pool.
RECENT = datetime.timedelta(hours=1)
SHOWN_ERRORS = 5
#: Changed rows that are compared with a filter, to count those that peers wait for.
MAX_LOOKED_AT = 10_000


@dataclass(frozen=True)
class PeerStatus:
    replica: str
    name: str
    state: str
    in_sync: bool
    rows_behind: int
    #: Local changes that the peer has not acknowledged, over all models.
    unacknowledged: int
    connected_since: datetime.datetime | None
    last_seen: datetime.datetime | None
    last_error: str

    @property
    def shown(self) -> str:
        return replica_name(self.replica, self.name)


@dataclass(frozen=True)
class ErrorStatus:
    at: datetime.datetime
    count: int
    replica: str
    text: str


@dataclass(frozen=True)
class PoolStatus:
    pool: str
    topic: str
    account: str
    cancelled: bool
    has_live_worker: bool
    worker: str
    signaling: str
    models: list[str]
    #: The filters of those that have one.
    filters: dict[str, str]
    peers: list[PeerStatus]
    #: Errors of the last hour, newest first.
    errors: list[ErrorStatus]
    #: What is particular about models: one direction only, rows that modifiers have refused.
    notes: list[str]


@dataclass(frozen=True)
class ModelStatus:
    model: str
    pools: list[str]
    table_rows: int
    present: int
    deleted: int
    parked: int
    #: Rows that have left a pool's filter: others have them.
    hidden: int
    #: Writes in the change log that the worker has not posted yet.
    waiting: int
    #: Values that lost in a conflict and were not restored: see ``manage.py p2p conflicts``.
    conflicts: int
    #: Why capture is not as it should be; empty if it is.
    capture: str


@dataclass(frozen=True)
class ReplicaStatus:
    database: str
    #: Empty until a worker has run for the first time.
    replica: str
    name: str
    pools: list[PoolStatus]
    models: list[ModelStatus]
    #: What needs somebody to look after it.
    attention: list[str] = field(default_factory=list)


def replica_status(database: str) -> ReplicaStatus:
    """Gather everything; nothing is written."""
    replica = Replica.objects.using(database).first()
    pools = [_pool(pool, database) for pool in Pool.objects.using(database).order_by("account", "topic")]
    models = _models(database)
    return ReplicaStatus(
        database,
        replica.replica_id if replica is not None else "",
        str(app_settings.NAME),
        pools,
        models,
        _attention(pools, models),
    )


def _pool(pool: Pool, database: str) -> PoolStatus:
    live = pool.has_live_worker
    declarations = list(pool.declarations.order_by("model"))
    errors = PoolError.objects.using(database).filter(pool=pool, at__gt=timezone.now() - RECENT)
    return PoolStatus(
        str(pool),
        pool.topic,
        pool.account,
        pool.cancelled_at is not None,
        live,
        pool.lease_holder if live else "",
        pool.signaling_state if live else "",
        [declaration.model for declaration in declarations],
        {d.model: str(RowFilter.parse(d.filter_text)) for d in declarations if d.filter_text},
        [_peer(peer, live, declarations, database) for peer in pool.peers.order_by("name", "replica_id")],
        [ErrorStatus(error.at, error.count, error.replica_id, error.text) for error in errors[:SHOWN_ERRORS]],
        [
            f"{declaration.model}: {text}"
            for declaration in declarations
            for text in (declaration.direction, *declaration.refusals())
            if text
        ],
    )


def _peer(peer: Peer, live: bool, declarations: list[Declaration], database: str) -> PeerStatus:
    state = peer.state
    if state in (PeerState.CONNECTED, PeerState.CONNECTING) and not live:
        state = PeerState.GONE  # Its worker has not lived to write that.
    connected = state == PeerState.CONNECTED
    return PeerStatus(
        peer.replica_id,
        peer.name,
        str(state),
        peer.in_sync and connected,
        peer.rows_behind if connected else 0,
        sum(_unacknowledged(peer, declaration, database) for declaration in declarations),
        peer.connected_since if connected else None,
        peer.last_seen,
        peer.last_error,
    )


def _unacknowledged(peer: Peer, declaration: Declaration, database: str) -> int:
    """Count the rows whose last local change a peer has not acknowledged."""
    stream = Stream.objects.using(database).filter(label=declaration.model).first()
    if stream is None:
        return 0
    progress = PeerProgress.objects.using(database).filter(peer=peer, declaration=declaration).first()
    if progress is not None and not progress.gives:
        return 0
    acknowledged = progress.acknowledged if progress is not None else 0
    # An own counter above n implies a seq above n, which is indexed.
    rows = LedgerEntry.objects.using(database).filter(
        stream=stream.pk, seq__gt=acknowledged, own_counter__gt=acknowledged
    )
    options = registry.get(declaration.model)
    if not declaration.filter_text or options is None:
        return rows.count()
    keys = list(rows.values_list("key", flat=True)[:MAX_LOOKED_AT])
    return count_shared(database, options, declaration, keys)


def _models(database: str) -> list[ModelStatus]:
    declared: dict[str, list[str]] = {}
    for declaration in Declaration.objects.using(database).filter(pool__cancelled_at=None).select_related("pool"):
        declared.setdefault(declaration.model, []).append(str(declaration.pool))
    streams = {stream.label: stream for stream in Stream.objects.using(database).all()}
    drift = {found.label: found.reason for found in installation.drift(database)}
    gaps = {
        gap.stream.label: f"gap since {gap.opened_at:%Y-%m-%d %H:%M}: {gap.reason}"
        for gap in Gap.objects.using(database).filter(closed_at=None).select_related("stream")
    }
    counts: dict[int, dict[int, int]] = {}
    by_status = LedgerEntry.objects.using(database).order_by().values_list("stream", "status")
    for number, status, count in by_status.annotate(count=Count("pk")):
        counts.setdefault(number, {})[status] = count
    log = ChangeLogEntry.objects.using(database).order_by().values_list("stream")
    waiting: dict[int, int] = dict(log.annotate(count=Count("pk")))
    open_conflicts = Conflict.objects.using(database).open().order_by().values_list("model")
    conflicts: dict[str, int] = dict(open_conflicts.annotate(count=Count("pk")))
    found = []
    for label in sorted(declared.keys() | {label for label in streams if registry.get(label) is not None}):
        options, stream = registry.get(label), streams.get(label)
        ledger = counts.get(stream.pk, {}) if stream is not None else {}
        capture = gaps.get(label) or drift.get(label, "")
        if options is None:
            capture = "the model does not replicate in this project (any more)"
        elif stream is None:
            capture = capture or "its table is not in this database"
        found.append(
            ModelStatus(
                label,
                sorted(declared.get(label, [])),
                options.model._base_manager.using(database).count() if options is not None and stream else 0,
                ledger.get(EntryStatus.PRESENT, 0),
                ledger.get(EntryStatus.DELETED, 0),
                ledger.get(EntryStatus.PARKED, 0),
                ledger.get(EntryStatus.HIDDEN, 0),
                waiting.get(stream.pk, 0) if stream is not None else 0,
                conflicts.get(label, 0),
                capture,
            )
        )
    return found


def _attention(pools: list[PoolStatus], models: list[ModelStatus]) -> list[str]:
    found = []
    for pool in pools:
        if not pool.has_live_worker and not pool.cancelled:
            found.append(f"{pool.pool}: no live worker serves it. Start one: manage.py runp2psync")
        if pool.errors:
            found.append(f"{pool.pool}: it had errors in the last hour, see above")
    for model in models:
        if registry.get(model.model) is None:
            found.append(f"{model.model}: {model.capture}. Cancel its part in the pool, or restore the model")
        elif model.capture:
            found.append(f"{model.model}: {model.capture}. Renew its capture: manage.py p2p triggers install")
        if model.parked:
            found.append(f"{model.model}: {model.parked} rows are parked. See why: manage.py p2p parked {model.model}")
    return found
