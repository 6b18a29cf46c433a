"""The models: the mixin for a project's own models, and replication's own tables."""

from p2p_replication.models.conflict import Conflict, ConflictKind
from p2p_replication.models.handle import PoolHandle, async_p2p, sync_p2p
from p2p_replication.models.ledger import (
    ChangeLogEntry,
    EntryStatus,
    FieldLayout,
    Gap,
    LedgerEntry,
    LocalWrite,
    Operation,
    Parking,
    Stream,
    StreamFilter,
)
from p2p_replication.models.pool import (
    Declaration,
    Peer,
    PeerProgress,
    PeerState,
    Pool,
    PoolError,
    PullCursor,
)
from p2p_replication.models.replica import Applying, Origin, Replica, Start
from p2p_replication.models.replicated import ReplicatedManager, ReplicatedModel, ReplicatedQuerySet, uuid7
from p2p_replication.models.signaling import DeviceToken, RoomMember
from p2p_replication.models.worker_request import RequestKind, RequestState, WorkerRequest

__all__ = [
    "Applying",
    "ChangeLogEntry",
    "Conflict",
    "ConflictKind",
    "Declaration",
    "DeviceToken",
    "EntryStatus",
    "FieldLayout",
    "Gap",
    "LedgerEntry",
    "LocalWrite",
    "Operation",
    "Origin",
    "Parking",
    "Peer",
    "PeerProgress",
    "PeerState",
    "Pool",
    "PoolError",
    "PoolHandle",
    "PullCursor",
    "Replica",
    "ReplicatedManager",
    "ReplicatedModel",
    "ReplicatedQuerySet",
    "RequestKind",
    "RequestState",
    "RoomMember",
    "Start",
    "Stream",
    "StreamFilter",
    "WorkerRequest",
    "async_p2p",
    "sync_p2p",
    "uuid7",
]
