"""The part of a session that compares content: questions for digests, and answers. One question at a time each way."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.conversation import Conversation
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.introduction import DIGESTS, SessionConfig
from p2p_replication.protocol.messages import Digest, DigestRequest
from p2p_replication.protocol.phases import Phase
from p2p_replication.protocol.verification import check_digest, check_request, refusal


class DigestExchange(Conversation):
    """What a session says of digests.

    Attributes:
        left_out: models of ours that have no part in this session, and why.
    """

    def __init__(self, config: SessionConfig, now: float) -> None:
        self.left_out: dict[str, str] = {}
        self._digest_number = 0
        #: Our question that the peer has not answered yet, and the peer's that we have not.
        self._asked: DigestRequest | None = None
        self._to_answer: DigestRequest | None = None
        super().__init__(config, now)

    def why_no_digest(self, model: str) -> str:
        """Say why the peer can't be asked for digests of a model in this session; empty if it can."""
        if self.peer is None or DIGESTS not in self.peer.features:
            return "the peer runs an older version, which does not compare content"
        return "" if self._takes_part(model) else self.left_out.get(model, "it has no part in this connection")

    def ask_digest(self, model: str, buckets: Sequence[int] = ()) -> bool:
        """Ask what the peer holds of a model: the answer is a ``DigestArrived``.

        False if it can't be asked, or has not answered the last question yet.
        """
        if self.phase is not Phase.OPEN or self._asked is not None or self.why_no_digest(model):
            return False
        self._digest_number += 1
        self._asked = DigestRequest(model, self._digest_number, list(buckets))
        self._send(self._asked)
        return True

    def digest_read(self, digest: Digest) -> None:
        """Give back what ``ReadDigest`` asked for."""
        request, self._to_answer = self._to_answer, None
        if request is not None and self.phase is Phase.OPEN:
            self._send(msgspec.structs.replace(digest, model=request.model, number=request.number))

    def _takes_part(self, model: str) -> bool:
        """Tell whether both sides replicate a model in this session."""
        raise NotImplementedError

    def _on_digest_request(self, request: DigestRequest) -> None:
        if self._to_answer is not None:
            raise RemoteProtocolError("a DIGEST_REQUEST before the last one was answered")
        check_request(request)
        self._to_answer = request
        if self._takes_part(request.model):
            self._effects.append(fx.ReadDigest(request))
        else:
            self.digest_read(refusal(self.left_out.get(request.model, "the model is not declared there")))

    def _on_digest(self, digest: Digest) -> None:
        request, self._asked = self._asked, None
        if request is None or (digest.model, digest.number) != (request.model, request.number):
            raise RemoteProtocolError("a DIGEST that was not asked for")
        check_digest(digest, request.buckets)
        self._effects.append(fx.DigestArrived(digest))
