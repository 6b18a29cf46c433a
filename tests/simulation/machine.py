"""A replica's machine: its database, its clock, and the worker while one runs.

``Worker`` does for a replica what ``worker.supervisor`` and ``pool.database_thread`` do: one thread carries out all
work in the database, a transaction after the other, for all pools; and it may die between any two.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.simulation.pool_member import PoolMember
from tests.simulation.storage_model import StorageModel, Work
from tests.simulation.surroundings import Surroundings

#: How often parked rows are tried again and loose rows looked for, in seconds.
RETRY = 30.0
RETRY_PAUSE = 0.25
#: When virtual time begins, in milliseconds since the epoch.
EPOCH_MS = 1_700_000_000_000
#: Walls are coarse, so that clocks collide.
WALL_STEP_MS = 50


class Machine:
    """One replica, whether its worker runs or not.

    Attributes:
        skew_ms: how far its clock is ahead.
        is_gone: it never comes back.
    """

    def __init__(self, name: str, storage: StorageModel, world: Surroundings, skew_ms: int = 0) -> None:
        self.name, self.storage, self.world, self.skew_ms = name, storage, world, skew_ms
        self.replica_id = hashlib.md5(name.encode()).hexdigest()
        self.secret = hashlib.sha256(name.encode()).digest()
        self.worker: Worker | None = None
        self.is_gone = False
        self.starts = 0

    @property
    def pools(self) -> list[str]:
        return list(dict.fromkeys(pool for pool, _ in self.storage.declarations))

    def now_ms(self) -> int:
        return EPOCH_MS + self.skew_ms + int(self.world.time.now * 1000)

    def wall(self) -> int:
        """Return the time that a trigger logs."""
        return EPOCH_MS + self.skew_ms + int(self.world.time.now * 1000) // WALL_STEP_MS * WALL_STEP_MS

    def start(self) -> None:
        """Start a worker, under a new origin."""
        self.starts += 1
        self.storage.begin(f"{self.name}{self.starts}.{len(self.storage.content.starts)}")
        self.world.note(self.name, f"starts as {self.storage.start}")
        self.worker = Worker(self)
        self.worker.run()

    def stop(self) -> None:
        """Kill the worker: nothing that is under way comes to an end."""
        if self.worker is not None:
            self.world.note(self.name, "dies")
            worker, self.worker = self.worker, None
            worker.stop()

    def member(self, pool: str) -> PoolMember | None:
        return self.worker.members.get(pool) if self.worker is not None else None

    def has_written(self) -> None:
        """The application has committed something: the worker will notice, if there is one."""
        if self.worker is not None:
            self.world.time.later(self.world.draw(self.world.pace.work), self.worker.post)


class Worker:
    """One start of a worker, until it is stopped."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.storage, self.world = machine, machine.storage, machine.world
        self.running = True
        #: Die after so many more commits; None: not planned.
        self.commits_left: int | None = None
        self._jobs: deque[tuple[Work[Any], Callable[[Any], None] | None]] = deque()
        self._busy = self._posting = False
        self._retry_due: float | None = None
        self.members = {pool: PoolMember(pool, self) for pool in machine.pools}

    def run(self) -> None:
        self.post()
        self.world.time.later(RETRY, self._retry_now_and_then)

    def stop(self) -> None:
        self.running = False
        self._jobs.clear()
        for member in self.members.values():
            member.stop()

    # -- the database thread -----------------------------------------------------------------------------------------

    def do(self, work: Work[Any], done: Callable[[Any], None] | None = None) -> None:
        """Let the database's thread do some work; ``done`` gets its outcome, a little later."""
        self._jobs.append((work, done))
        if not self._busy:
            self._busy = True
            self.world.time.later(self.world.draw(self.world.pace.work), self._step)

    def _step(self) -> None:
        """Go on to the next commit of the oldest work."""
        if not self.running:
            return
        work, done = self._jobs[0]
        try:
            next(work)
        except StopIteration as stop:
            self._jobs.popleft()
            if changed := self.storage.take_changed():
                self.world.time.later(self.world.draw(self.world.pace.work), lambda: self._models_changed(changed))
            if done is not None:
                self.world.time.later(self.world.draw(self.world.pace.work), lambda v=stop.value: self._tell(done, v))
        else:
            if self.commits_left is not None:
                self.commits_left -= 1
                if self.commits_left < 0:
                    self.machine.stop()
                    return
        if self._jobs:
            self.world.time.later(self.world.draw(self.world.pace.work), self._step)
        else:
            self._busy = False

    def _tell(self, done: Callable[[Any], None], outcome: Any) -> None:
        if self.running:
            done(outcome)

    # -- loops -------------------------------------------------------------------------------------------------------

    def post(self) -> None:
        """Post what the application has written."""
        if self.running and not self._posting and self.storage.content.log:
            self._posting = True
            self.do(self.storage.posting(), self._posted)

    def _posted(self, outcome: None) -> None:
        self._posting = False
        self.post()

    def _models_changed(self, labels: set[str]) -> None:
        if self.running:
            for member in self.members.values():
                member.changed(labels)
            if self._retry_due is None:
                self._retry_due = self.world.time.now + RETRY_PAUSE
                self.world.time.at(self._retry_due, self._retry)

    def _retry_now_and_then(self) -> None:
        if self.running:
            self._retry()
            self.world.time.later(RETRY, self._retry_now_and_then)

    def _retry(self) -> None:
        """Try parked rows again, and take on the rows of pulls that broke off."""
        self._retry_due = None
        if not self.running:
            return
        if self.storage.has_parked:
            self.do(self.storage.retry_parked(self.machine.now_ms()))
        for pool, member in self.members.items():
            if self.storage.has_unfinished(pool):
                self.do(self.storage.adopt_loose_rows(pool, self.world.time.now, member.connected_peers()))
