"""What a command asks of the worker, which alone holds the connections to peers; and what came of it."""

from __future__ import annotations

import datetime
import time
from typing import Any

from django.db import connections, models
from django.utils import timezone

from p2p_replication.models.doorbell import ring_doorbell
from p2p_replication.models.own_tables import ReplicaState
from p2p_replication.models.pool import Pool

#: How long answered requests are kept.
KEPT = datetime.timedelta(days=1)


class RequestKind(models.TextChoices):
    #: Compare the pool's content with its connected peers.
    VERIFY = "verify"
    #: Try all parked rows again.
    RETRY = "retry"


class RequestState(models.TextChoices):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class WorkerRequest(ReplicaState):
    """One request. A worker looks for them when something was committed, and forgets those whose time is over."""

    kind = models.CharField(max_length=20, choices=RequestKind.choices)
    #: The pool that it is about; none: any worker of the database may take it.
    pool = models.ForeignKey(Pool, null=True, on_delete=models.CASCADE, related_name="+")
    requested_at = models.DateTimeField(auto_now_add=True)
    #: Nobody waits for the answer after this time.
    deadline = models.DateTimeField()
    state = models.CharField(max_length=20, choices=RequestState.choices, default=RequestState.WAITING)
    results = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.pool or ''}".strip()

    @classmethod
    def make(cls, kind: RequestKind, pool: Pool | None, timeout: float, using: str) -> WorkerRequest:
        """Ask for something that is of use within ``timeout`` seconds."""
        now = timezone.now()
        cls.objects.using(using).filter(requested_at__lt=now - KEPT).delete()
        request = cls.objects.using(using).create(
            kind=kind, pool=pool, deadline=now + datetime.timedelta(seconds=timeout)
        )
        ring_doorbell()
        return request

    @classmethod
    def take(cls, using: str, pools: set[int]) -> list[WorkerRequest]:
        """Return the requests that wait, are about these pools or none, and that no other worker has taken."""
        with connections[using].cursor() as cursor:
            # Asked after commits, for months, and next to never is there any.
            cursor.execute(
                f"SELECT EXISTS (SELECT 1 FROM {cls._meta.db_table} WHERE state = %s)", [RequestState.WAITING]
            )
            if not cursor.fetchone()[0]:
                return []
        mine = models.Q(pool=None) | models.Q(pool__in=pools)
        waiting = cls.objects.using(using).filter(mine, state=RequestState.WAITING, deadline__gt=timezone.now())
        return [
            request
            for request in waiting
            if cls.objects.using(using)
            .filter(pk=request.pk, state=RequestState.WAITING)
            .update(state=RequestState.RUNNING)
        ]

    def wait(self, timeout: float) -> bool:
        """Wait until a worker has answered; False if none has within ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while self.state not in (RequestState.DONE, RequestState.FAILED):
            if time.monotonic() >= end:
                return False
            time.sleep(0.1)
            self.refresh_from_db()
        return True

    def answer(self, state: RequestState, results: dict[str, Any]) -> None:
        """Write what came of it; nothing happens if the request is gone by now."""
        using = self._state.db
        WorkerRequest.objects.using(using).filter(pk=self.pk).update(state=state, results=results)
