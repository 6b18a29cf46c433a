"""One peer's digests: its questions are answered, and ours are asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from p2p_replication.protocol.messages import Digest, DigestRequest
from p2p_replication.protocol.verification import refusal
from p2p_replication.storage.content_digests import Stopped

if TYPE_CHECKING:
    from p2p_replication.pool.replicator import Replicator

logger = logging.getLogger("p2p_replication.pool")


class PeerDigests:
    """What a replicator does about digests."""

    def __init__(self, replicator: Replicator) -> None:
        self._replicator = replicator
        self._answer: asyncio.Future[Digest | None] | None = None
        self._reading: asyncio.Task[None] | None = None

    def read(self, request: DigestRequest) -> None:
        """Read what the peer asks for, beside everything else that goes on, and send it."""
        self._reading = self._replicator.pool.keep(self._read(request))

    async def _read(self, request: DigestRequest) -> None:
        pool = self._replicator.pool
        try:
            digest = await pool.thread.read(pool.parts[request.model].digest, request.buckets)
        except Stopped:
            return
        except Exception as error:
            logger.exception("reading digests of %s failed", request.model)
            digest = refusal(f"reading failed there: {type(error).__name__}")
        self._replicator.session.digest_read(digest)
        self._replicator.carry_out()

    async def ask(self, model: str, buckets: Sequence[int], timeout: float) -> Digest:
        """Return the peer's answer, or a refusal that says why there is none."""
        session = self._replicator.session
        if not session.ask_digest(model, buckets):
            return refusal(session.why_no_digest(model) or "the peer has not answered the last question yet")
        self._answer = asyncio.get_running_loop().create_future()
        self._replicator.carry_out()
        try:
            async with asyncio.timeout(timeout):
                digest = await self._answer
        except TimeoutError:
            return refusal(f"no answer in the time that was left, {timeout:.1f} s: allow more with --timeout")
        return digest or refusal(f"the connection has ended: {self._replicator.close_reason}")

    def arrived(self, digest: Digest) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(digest)

    def ended(self) -> None:
        """The connection is over: whoever waits for an answer is told, and nothing is read any more."""
        if self._reading is not None:
            self._reading.cancel()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)
