"""What a session sends: answers to pulls, pushes of own changes, announcements of others'.

What is read from one snapshot goes out together, so that rows of one transaction arrive in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import PushBatch, ReadBatch
from p2p_replication.protocol.credit import Credit
from p2p_replication.protocol.digest_exchange import DigestExchange
from p2p_replication.protocol.families import families
from p2p_replication.protocol.introduction import SessionConfig
from p2p_replication.protocol.messages import Changes, State
from p2p_replication.protocol.model_link import ModelLink
from p2p_replication.protocol.phases import Phase
from p2p_replication.protocol.version_vector import Vector, joined


class Sending(DigestExchange):
    """The sending side of a session, within the credit that the peer's acknowledgements leave."""

    def __init__(self, config: SessionConfig, now: float) -> None:
        self.links: dict[str, ModelLink] = {}
        self._serial = 0
        self._credit = Credit(config.window)
        #: Own changes are being read for a push; batches for a pull. One reading of each kind at a time.
        self._pushing = self._reading = False
        #: More was written while a push was under way.
        self._unpushed = False
        #: Models that refer to each other, by model.
        self.families = families(config.models)
        #: By family, the serial number of its last batch in the answers to pulls.
        self._turns: dict[str, int] = {}
        #: A REQUEST has said that another one follows.
        self._request_follows = False
        super().__init__(config, now)

    # -- pushes and announcements ------------------------------------------------------------------------------------

    @property
    def push_under_way(self) -> bool:
        """A push is being read, or not acknowledged yet."""
        return self._pushing or any(link.push_serial for link in self.links.values())

    def push_wishes(self) -> dict[str, int]:
        """Return what to read for a push: by model, the own counter above which changes are to be pushed.

        All models that can be pushed, whether they are known to have news or not: a transaction may have written to
        several.
        """
        return {
            label: link.peer.get(self.config.start, 0)
            for label, link in self.links.items()
            if link.gives and link.peer is not None and link.serve is None and not link.push_refused
        }

    def push_read(self, batches: Mapping[str, PushBatch]) -> None:
        """Give back what ``ReadPush`` asked for, by model."""
        self._pushing = False
        if self.phase is not Phase.OPEN:
            return
        # Where a pull has begun meanwhile, that covers it.
        read = [(link, batches[link.label]) for link in self.links.values() if link.label in batches]
        read = [(link, batch) for link, batch in read if link.serve is None and link.peer is not None]
        if any(batch.rows is None for _, batch in read):
            self._announce(link for link, _ in read)
            return
        news = [(link, batch) for link, batch in read if batch.push_to > batch.push_from]
        self._push([(link, batch) for link, batch in news if self._push_fits(link, batch)])
        for link, _ in news:
            self._tell(link)
        self._push_again()

    def _push_fits(self, link: ModelLink, batch: PushBatch) -> bool:
        """Tell whether the peer has what comes before the batch, as far as is known by now."""
        return link.peer is not None and link.peer.get(batch.origin, 0) == batch.push_from

    def _push(self, read: Sequence[tuple[ModelLink, PushBatch]]) -> None:
        for link, batch in read:
            assert batch.rows is not None
            claim = {batch.origin: batch.push_to}
            changes = ReadBatch(self.config.start, 0, 0, batch.rows, batch.count, None)
            link.push_serial = self._send_changes(
                link, 0, changes, batch.push_from, claim, 0, more=link is not read[-1][0]
            )
            link.rows_out += batch.count
            link.peer_has(claim)
            link.told = joined(link.told, claim)
            link.local = joined(link.local, claim)

    def _tell(self, link: ModelLink) -> None:
        """Let the peer have what is new here: own changes by push, others' by announcement.

        One push is on its way at a time: what is written meanwhile goes in the next one, together, and a slow peer
        has no backlog of small batches. It need not wait for credit that the pull of another model has used up.
        """
        if link.serve is not None or (link.peer is None and link.gives):
            return  # Its pull will end with our vector, or has yet to come.
        if link.gives and link.local.get(self.config.start, 0) > (link.peer or {}).get(self.config.start, 0):
            if link.push_refused:
                link.announce_pending = True
            elif self.push_under_way:
                self._unpushed = True
            else:
                self._pushing = True
                self._effects.append(fx.ReadPush())
        rest = self._to_announce(link)
        rest.pop(self.config.start, None)
        if rest:
            link.announce_pending = True

    def _push_again(self) -> None:
        """Push what was written while the last push was under way."""
        if self._unpushed and not self.push_under_way:
            self._unpushed = False
            for link in self.links.values():
                self._tell(link)

    def _to_announce(self, link: ModelLink) -> Vector:
        return link.to_announce(self.peer.start if self.peer is not None else "")

    def _announce(self, links: Iterable[ModelLink]) -> None:
        """Send what the peer was not told of, of several models together."""
        vectors: dict[str, Vector] = {}
        for link in links:
            link.announce_pending = False
            vector = self._to_announce(link)
            if self.push_under_way and not link.push_refused:
                vector.pop(self.config.start, None)
            if vector and link.serve is None:
                link.told = joined(link.told, vector)
                vectors[link.label] = vector
        for number, (label, vector) in enumerate(vectors.items(), 1):
            self._send(State(label, vector, number < len(vectors)))

    # -- answers to pulls --------------------------------------------------------------------------------------------

    def pull_wishes(self) -> list[fx.PullWish]:
        """Return what to read next for the peer's pulls.

        The pulls that have begun together are read together. If they are too long for that, families of models take
        turns, so that none waits for another's first sync; and in a family one comes after the other, in the order
        in which they were asked for: parents before children.
        """
        serves = [(link.label, link.serve) for link in self.links.values() if link.serve is not None]
        serves.sort(key=lambda item: item[1].number)
        if any(serve.after is not None for _, serve in serves):
            family = min((self.families[label] for label, _ in serves), key=lambda name: self._turns.get(name, 0))
            serves = [(label, serve) for label, serve in serves if self.families[label] == family]
        if serves and serves[0][1].after is not None:
            del serves[1:]
        return [
            fx.PullWish(
                label, serve.round, serve.vector, serve.after, serve.cursor_start, serve.cursor_seq, serve.batch_size,
                serve.cursor_snapshot,
            )
            for label, serve in serves
            if serve.after is None or len(serves) == 1
        ]  # fmt: skip

    def changes_read(self, wishes: Sequence[fx.PullWish], batches: Sequence[ReadBatch]) -> None:
        """Give back what ``ReadChanges`` asked for: a batch for each wish, or for the first ones."""
        self._reading = False
        if self.phase is not Phase.OPEN:
            return
        answered = []
        for wish, batch in zip(wishes, batches, strict=False):
            link = self.links.get(wish.model)
            # Otherwise the peer has begun another pull meanwhile.
            if link is not None and link.serve is not None and link.serve.round == wish.round:
                answered.append((link, batch))
        is_whole = len(answered) == len(wishes) and all(batch.vector is not None for _, batch in answered)
        for link, batch in answered:
            self._answer(link, batch, more=is_whole and link is not answered[-1][0])
        for link, batch in answered:
            if batch.vector is not None:
                self._tell(link)
        self._serve_more()

    def _answer(self, link: ModelLink, batch: ReadBatch, *, more: bool) -> None:
        serve = link.serve
        assert serve is not None
        serve.after = batch.to_seq
        serve.remaining = batch.remaining if batch.remaining is not None else max(serve.remaining - batch.count, 0)
        self._send_changes(link, serve.round, batch, 0, batch.vector, serve.remaining, more=more)
        link.rows_out += batch.count
        self._turns[self.families[link.label]] = self._serial
        if batch.vector is None:
            return
        link.serve = None
        # Optimistic: the channel is reliable. A receiver that could not take the claim asks again, with its vector.
        link.peer_has(batch.vector)
        link.told = joined(joined(link.told, batch.vector), batch.unclaimed)
        link.local = joined(link.local, batch.vector)

    def _serve_more(self) -> None:
        if self._reading or self._request_follows or not self._credit.has_room:
            return
        if any(link.serve is not None for link in self.links.values()):
            self._reading = True
            self._effects.append(fx.ReadChanges())

    def _send_changes(
        self,
        link: ModelLink,
        round: int,
        batch: ReadBatch,
        push_from: int,
        claim: Vector | None,
        remaining: int,
        *,
        more: bool,
    ) -> int:
        """Send a batch; return its serial number."""
        self._serial += 1
        message = Changes(
            link.label, self._serial, round, batch.start, batch.from_seq, batch.to_seq, batch.continues, push_from,
            claim, remaining, batch.rows, batch.snapshot, more,
        )  # fmt: skip
        self._credit.sent(self._serial, self._send(message), link.label, claim or {})
        return self._serial
