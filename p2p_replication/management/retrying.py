"""A try of the parked rows right now: by the worker if one lives, otherwise here."""

from __future__ import annotations

from dataclasses import dataclass

from p2p_replication.management.parked_rows import parked
from p2p_replication.models.pool import Pool
from p2p_replication.models.worker_request import RequestKind, WorkerRequest
from p2p_replication.storage.retry import retry_parked
from p2p_replication.worker.opening import open_database

#: Seconds that the worker has for its try.
PATIENCE = 20.0


@dataclass(frozen=True)
class Retried:
    #: ``"worker"`` or ``"here"``; ``"nobody"``: the worker was asked and has not come to it.
    by: str
    #: Rows that are parked no more.
    ended: int

    @property
    def described(self) -> str:
        match self.by:
            case "worker":
                return f"The worker has tried again: {self.ended} rows are parked no more."
            case "here":
                return f"No worker runs, so this command has tried again: {self.ended} rows are parked no more."
            case _:
                return f"The worker was asked and has not come to it within {PATIENCE:g} s; it tries by itself, too."


def retry_now(database: str) -> Retried:
    """Try all parked rows again."""
    before = parked(database).count()
    if any(pool.has_live_worker for pool in Pool.objects.using(database).active()):
        answered = WorkerRequest.make(RequestKind.RETRY, None, PATIENCE, database).wait(PATIENCE)
        return Retried("worker" if answered else "nobody", max(before - parked(database).count(), 0))
    return Retried("here", retry_parked(open_database(database)) if before else 0)
