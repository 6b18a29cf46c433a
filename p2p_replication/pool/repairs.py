"""When relations are repaired: once everything that the connected peers have is here.

Rows that were deleted together arrive one model after another, so a row that seems to have lost its parent may be
about to go as well. A repair waits until every peer was asked for every model since it became due: a peer has its
children's deletes by the time it tells of their parent's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from p2p_replication.storage.referrers import Row
from p2p_replication.storage.repairs import due_repairs, repair

if TYPE_CHECKING:
    from p2p_replication.pool.live_pool import LivePool
    from p2p_replication.pool.replicator import Replicator
    from p2p_replication.protocol.model_link import ModelLink

#: Seconds until a repair is tried again that could not be made.
PATIENCE = 600.0


class PoolRepairs:
    """The repairs of one pool's models."""

    def __init__(self, pool: LivePool) -> None:
        self._pool = pool
        self._due: set[Row] = set()
        #: The numbers of the pulls that were the last when the peers were asked.
        self._asked: dict[tuple[Replicator, str], int] | None = None
        #: What was tried and could not be repaired, and when.
        self._hopeless: set[Row] = set()
        self._tried = 0.0

    @property
    def is_waiting(self) -> bool:
        """Peers were asked because of a repair, and it is not made yet."""
        return self._asked is not None

    async def step(self) -> bool:
        """Do what can be done now; return whether to come again soon."""
        pool, links = self._pool, self._links()
        due = set(await pool.thread.run(due_repairs, pool.database, list(pool.parts)))
        if time.monotonic() - self._tried > PATIENCE:
            self._hopeless = set()
        if not links or due <= self._hopeless:
            self._asked = None
            return False
        if self._asked is None or not due <= self._due:
            self._due, self._asked = due, {key: link.round for key, link in links.items()}
            pool.ask_everybody()
            return True
        if any(link.round <= self._asked.get(key, 0) or not link.complete for key, link in links.items()):
            return True
        repaired = await pool.thread.run(repair, pool.database, list(pool.parts))
        self._asked = None
        self._hopeless, self._tried = set() if repaired else due, time.monotonic()
        return repaired > 0

    def _links(self) -> dict[tuple[Replicator, str], ModelLink]:
        return {
            (replicator, label): link
            for replicator in self._pool.replicators
            if replicator.is_open
            for label, link in replicator.session.links.items()
            if link.takes
        }
