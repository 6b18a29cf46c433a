"""What a session sends: answers to pulls, pushes of own changes, announcements of others'."""

from __future__ import annotations

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import ReadBatch
from p2p_replication.protocol.credit import Credit
from p2p_replication.protocol.digest_exchange import DigestExchange
from p2p_replication.protocol.introduction import SessionConfig
from p2p_replication.protocol.messages import Changes, State
from p2p_replication.protocol.model_link import ModelLink
from p2p_replication.protocol.version_vector import Vector, joined


class Sending(DigestExchange):
    """The sending side of a session, within the credit that the peer's acknowledgements leave."""

    def __init__(self, config: SessionConfig, now: float) -> None:
        self.links: dict[str, ModelLink] = {}
        self._serial = 0
        self._credit = Credit(config.window)
        super().__init__(config, now)

    def _tell(self, link: ModelLink) -> None:
        """Let the peer have what is new here: own changes by push, others' by announcement.

        One push is on its way at a time: what is written meanwhile goes in the next one, together, and a slow peer
        has no backlog of small batches.
        """
        if link.serve is not None or (link.peer is None and link.gives):
            return  # Its pull will end with our vector, or has yet to come.
        has = (link.peer or {}).get(self.config.start, 0)
        if link.gives and link.local.get(self.config.start, 0) > has and not link.push_under_way:
            if self._credit.has_room and not link.push_refused:
                link.pushing = True
                self._effects.append(fx.ReadPush(link.label, has))
            else:
                link.announce_pending = True
        rest = self._to_announce(link)
        rest.pop(self.config.start, None)
        if rest:
            link.announce_pending = True

    def _to_announce(self, link: ModelLink) -> Vector:
        return link.to_announce(self.peer.start if self.peer is not None else "")

    def _announce(self, link: ModelLink) -> None:
        link.announce_pending = False
        vector = self._to_announce(link)
        if link.push_under_way:
            vector.pop(self.config.start, None)
        if vector and link.serve is None:
            link.told = joined(link.told, vector)
            self._send(State(link.label, vector))

    def _serve_more(self) -> None:
        for link in self.links.values():
            serve = link.serve
            if serve is None or link.reading or not self._credit.has_room:
                continue
            link.reading = True
            self._effects.append(
                fx.ReadChanges(
                    link.label, serve.round, serve.vector, serve.after, serve.cursor_start, serve.cursor_seq,
                    serve.batch_size, serve.cursor_snapshot,
                )
            )  # fmt: skip

    def _send_changes(
        self,
        link: ModelLink,
        round: int,
        batch: ReadBatch,
        push_from: int,
        claim: Vector | None,
        remaining: int,
    ) -> int:
        """Send a batch; return its serial number."""
        self._serial += 1
        message = Changes(
            link.label, self._serial, round, batch.start, batch.from_seq, batch.to_seq, batch.continues, push_from,
            claim, remaining, batch.rows, batch.snapshot,
        )  # fmt: skip
        self._credit.sent(self._serial, self._send(message), link.label, claim or {})
        return self._serial
