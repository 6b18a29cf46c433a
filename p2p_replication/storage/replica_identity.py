"""A replica's identity: the id and the key that its peers know it by. It is made once, and anew for a copy."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable

from django.db.models import Max

from p2p_replication.models.ledger import LedgerEntry
from p2p_replication.models.replica import Replica

#: 2020 began so many minutes after the epoch.
_FIRST_MINUTE = 26_297_280


def new_start(now: Callable[[], float] = time.time) -> str:
    """Return the id of a start (16 hex digits): random, and greater than that of an earlier minute until 2051.

    It is greater so that of two replicas with one identity the one that runs already can keep it.
    """
    minute = (int(now() // 60) - _FIRST_MINUTE) & 0xFFFFFF
    return f"{minute:06x}{secrets.token_hex(5)}"


def identity_of(alias: str, make_secret_key: Callable[[], bytes]) -> Replica:
    """Return the database's identity, made if there is none. Inside a transaction."""
    replica = Replica.objects.using(alias).first()
    if replica is None:
        # Whoever deleted the row has left the ledger: what is numbered next must come after what peers have read.
        last = LedgerEntry.objects.using(alias).aggregate(last=Max("seq"))["last"] or 0
        return Replica.objects.using(alias).create(
            replica_id=uuid.uuid4().hex, secret_key=make_secret_key(), sequence=last
        )
    if not replica.secret_key:
        # From a fixture: the key stayed with the replica that it was written by.
        renew_identity(alias, replica.replica_id, make_secret_key)
        replica.refresh_from_db(using=alias)
    return replica


def renew_identity(alias: str, replica_id: str, make_secret_key: Callable[[], bytes]) -> bool:
    """Give a database a new id and key; False if its id is another one than ``replica_id`` by now.

    Everything else stays: rows, ledger, vectors, and the cursors of its peers say what this database holds, whoever it
    is. Its worker has to open it anew (StaleReplica).
    """
    return bool(
        Replica.objects.using(alias)
        .filter(replica_id=replica_id)
        .update(replica_id=uuid.uuid4().hex, secret_key=make_secret_key())
    )
