"""The replication session between two replicas, sans-IO: bytes and events in, effects out.

The rules of vectors, cursors, pulls and pushes are those of DESIGN 4; each has a counterexample without it. The
session draws no time and no randomness: ``now`` (seconds, any monotonic origin) and the nonce come in as arguments.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import MAX_INTEGER, MAX_VECTOR, check_batch, check_vector
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.introduction import SessionConfig, disagreement
from p2p_replication.protocol.messages import (
    Ack,
    Changes,
    Digest,
    DigestRequest,
    Error,
    Hello,
    Message,
    Request,
    State,
)
from p2p_replication.protocol.model_link import ModelLink, Serve
from p2p_replication.protocol.phases import Phase
from p2p_replication.protocol.sending import Sending
from p2p_replication.protocol.version_vector import Vector, joined

#: What this replica has of a model, and its durable cursor in the peer's ledger: ``(start, seq, snapshot)``.
Position = tuple[Vector, tuple[str, int, int]]
#: What may wait for our decision to let a peer in: messages, and their bytes.
MAX_EARLY = 1000
MAX_EARLY_BYTES = 8 * 1024 * 1024


class Session(Sending):
    """One connection to one peer, for all models of a pool.

    Call a method for each event, then ``drain()`` for what has to be done. Methods never raise for anything the peer
    did: that ends in a ``Closed`` effect.
    """

    def __init__(self, config: SessionConfig, now: float) -> None:
        self._pull_deadline: float | None = None
        self._serves = 0
        #: Models to ask for once the last STATE of its moment is here; batches to apply with the ones that follow.
        self._wanting: list[str] = []
        self._gathered: list[Changes] = []
        #: Since when, as ``tick`` has seen, something waits for what is to follow it.
        self._waits_since: float | None = None
        #: What came before we decided to let the peer in, with its unpacked size.
        self._early: list[tuple[Message, int]] = []
        super().__init__(config, now)

    # -- events ------------------------------------------------------------------------------------------------

    def accept(self, vectors: Mapping[str, Vector], now: float) -> None:
        """Let the introduced peer in. ``vectors``: for each of our models, what this replica has."""
        if self.phase is not Phase.INTRODUCED or self.peer is None:
            return
        self.phase = Phase.OPEN
        for label, vector in vectors.items():
            if label in self.links:
                self.links[label].local = dict(vector)
        for label in self.links:
            self._want(label, initial=True)
        early, self._early = self._early, []
        for message, self._message_bytes in early:
            if self.phase is Phase.OPEN:
                self._handle(message, now)

    def pull(self, positions: Mapping[str, Position], now: float) -> None:
        """Ask the peer for what it has in some models, all at once.

        Args:
            positions: by model, what this replica has, and its durable cursor ``(start, seq, snapshot)``.
        """
        if self.phase is not Phase.OPEN:
            return
        asked = [link for link in (self.links.get(model) for model in positions) if link is not None and link.takes]
        for link in asked:
            vector, cursor = positions[link.label]
            link.round += 1
            link.pulling, link.wanted = True, False
            # More may have come since the position was read.
            link.local = joined(link.local, vector)
            link.told = joined(link.told, link.local)
            self._pull_deadline = now + self.config.pull_timeout
            size = self.config.batch_sizes.get(link.label, 0)
            request = Request(link.label, link.round, dict(link.local), cursor[0], cursor[1], size, cursor[2])
            self._send(msgspec.structs.replace(request, more=link is not asked[-1]))

    def changes_applied(self, changes: Changes, vector: Vector, taken: bool, now: float) -> None:
        """Give back the outcome of ``ApplyChanges``: this replica's vector now, and whether the claim was taken
        (for a batch without a claim: whether the cursor moved)."""
        model = changes.model
        self._credit.applied(changes.serial)
        if self.phase is not Phase.OPEN:
            return
        self._send(Ack(changes.serial, taken))
        link = self.links.get(model)
        if link is None:
            return
        link.applying -= 1
        self._pull_goes_on(link, changes.round, now)
        link.rows_in += len(changes.rows.keys)
        link.local = joined(link.local, vector)
        if changes.claim is not None:
            link.announced = joined(link.announced, self._foreign(changes.claim))
            link.confirmed = joined(link.confirmed, changes.claim)
            if taken:
                # Its first REQUEST is yet to come: what is pushed before, it asks for once more.
                if link.peer is not None:
                    link.peer_has(changes.claim)
                # The peer knows that we have what it claimed for us.
                link.told = joined(link.told, changes.claim)
        if link.pulling and changes.round == link.round and (changes.claim is not None or not taken):
            link.pulled_once = link.pulled_once or taken
            self._end_pull(link)
        if not taken:
            self._want(model, initial=changes.round > 0)
        elif not link.pulling and link.lacks_announced():
            self._want(model)

    def local_changed(self, model: str, vector: Vector) -> None:
        """Storage has new versions: own ones that were posted, or others' that were applied."""
        link = self.links.get(model)
        if link is None:
            return
        link.local = joined(link.local, vector)
        if self.phase is Phase.OPEN:
            self._tell(link)

    @property
    def wants_tick_soon(self) -> bool:
        """Announcements have gathered: ``tick`` within some tens of milliseconds."""
        return any(link.announce_pending for link in self.links.values())

    def tick(self, now: float) -> None:
        """Let time pass: heartbeats, time-outs and gathered announcements."""
        super().tick(now)
        if self.phase is Phase.CLOSED:
            return
        if self._pull_deadline is not None and now >= self._pull_deadline:
            self.close(f"no answer to a pull within {self.config.pull_timeout:g} s", is_error=True)
            return
        if self.phase is Phase.OPEN:
            self._announce([link for link in self.links.values() if link.announce_pending])
            self._give_up_waiting(now)

    def _give_up_waiting(self, now: float) -> None:
        """Go on without what was said to follow: a correct peer sends it, but nothing must wait for ever."""
        if not (self._wanting or self._gathered or self._request_follows):
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now
        elif now - self._waits_since >= self.config.timeout:
            self._request_follows = False
            self._serve_more()
            self._want_all()
            self._apply_gathered()

    def refuse_model(self, model: str, text: str) -> None:
        """End one model's part in this session, on both sides."""
        link = self.links.pop(model, None)
        if link is not None:
            self.left_out[model] = text
            self._effects.append(fx.PeerError(text, model))
            self._end_pull(link)
            self._send(Error("model", text, model))

    # -- messages ------------------------------------------------------------------------------------------------

    def _introduced(self, peer: Hello) -> None:
        theirs = {offer.label: offer for offer in peer.models}
        for offer in self.config.models:
            if offer.label not in theirs:
                self.left_out[offer.label] = "the peer does not declare it in this pool"
            else:
                reason = disagreement(offer, theirs[offer.label])
                if reason:
                    self.left_out[offer.label] = reason
                    self._effects.append(fx.PeerError(reason, offer.label))
                else:
                    self.links[offer.label] = ModelLink.between(offer, theirs[offer.label])
        super()._introduced(peer)

    def _refused(self, model: str, text: str) -> None:
        self._effects.append(fx.PeerError(text, model))
        link = self.links.pop(model, None)
        if link is not None:
            self.left_out[model] = text
            self._end_pull(link)

    def _replicate(self, message: Message, now: float) -> None:
        if self.phase is Phase.INTRODUCED:
            self._early.append((message, self._message_bytes))
            if len(self._early) > MAX_EARLY or sum(size for _, size in self._early) > MAX_EARLY_BYTES:
                raise RemoteProtocolError("too many messages before the introduction was over")
            return
        match message:
            case State():
                self._on_state(message)
            case Request():
                self._on_request(message)
            case Changes():
                self._on_changes(message, now)
            case Ack():
                self._on_ack(message)
            case DigestRequest():
                self._on_digest_request(message)
            case Digest():
                self._on_digest(message)

    def _takes_part(self, model: str) -> bool:
        return model in self.links

    def _on_state(self, state: State) -> None:
        link = self.links.get(state.model)
        if link is None:
            if not state.more:
                self._want_all()
            return
        check_vector(state.vector)
        self._wanting.append(state.model)
        link.announced = joined(link.announced, self._foreign(state.vector))
        if len(link.announced) > MAX_VECTOR:
            raise RemoteProtocolError(f"more than {MAX_VECTOR} origins announced")
        link.confirmed = joined(link.confirmed, state.vector)
        if link.peer is not None:
            link.peer_has(state.vector)
        if not state.more:
            self._want_all()

    def _want_all(self) -> None:
        """Ask for the models of which the peer has said that it has more."""
        wanting, self._wanting = self._wanting, []
        self._waits_since = None
        for model in wanting:
            link = self.links.get(model)
            if link is not None and link.lacks_announced() and not link.applying:
                self._want(model)

    def _on_request(self, request: Request) -> None:
        self._request_follows, self._waits_since = request.more, None
        link = self.links.get(request.model)
        if link is None:
            self._serve_more()
            return
        if not link.gives:
            raise RemoteProtocolError(f"a REQUEST for {link.label}, of which no rows go that way")
        check_vector(request.vector)
        if (
            not 0 <= request.cursor_seq <= MAX_INTEGER
            or not 0 <= request.cursor_snapshot <= MAX_INTEGER
            or not 0 <= request.batch_size <= 100_000
            or (request.round < 1 or len(request.cursor_start) > 16)
        ):
            raise RemoteProtocolError("a REQUEST with numbers out of range")
        link.peer = dict(request.vector)
        link.confirmed = joined(link.confirmed, request.vector)
        link.announced = joined(link.announced, self._foreign(request.vector))
        link.told = {}
        link.push_refused = False
        self._serves += 1
        link.serve = Serve(
            self._serves, request.round, dict(request.vector), request.cursor_start, request.cursor_seq,
            request.batch_size, cursor_snapshot=request.cursor_snapshot,
        )  # fmt: skip
        self._serve_more()
        if link.lacks_announced() and link.pulled_once and not link.applying:
            self._want(request.model)

    def _on_changes(self, changes: Changes, now: float) -> None:
        link = self.links.get(changes.model)
        if link is None:
            self._send(Ack(changes.serial, False))  # Refused meanwhile; its credit must not be lost to other models.
            if not changes.more:
                self._apply_gathered()
            return
        assert self.peer is not None
        if not link.takes:
            raise RemoteProtocolError(f"rows of {link.label}, of which none go this way")
        check_batch(changes, self.peer.start)
        if changes.round and changes.round == link.round:
            link.remaining = max(changes.remaining, 0)
            if changes.claim is not None:
                self._heed_claim(link, changes.claim, self.peer.start)
        self._pull_goes_on(link, changes.round, now)
        link.applying += 1
        self._credit.arrived(changes.serial, self._message_bytes)
        self._gathered.append(changes)
        if not changes.more:
            self._apply_gathered()

    def _heed_claim(self, link: ModelLink, claim: Mapping[str, int], start: str) -> None:
        """Note what the peer has in all: what it announced before, and has not, is forgotten.

        Of its own changes it has all that it announced; a transport that does not keep the order may have brought the
        word of one before a claim that is older. That is asked for once more, and not again: it may be a lie.
        """
        own = link.announced.get(start, 0)
        link.announced = self._foreign(claim)
        if own > claim.get(start, 0) and own != link.unreached:
            link.announced[start] = link.unreached = own

    def _apply_gathered(self) -> None:
        batches, self._gathered = tuple(self._gathered), []
        self._waits_since = None
        if batches:
            self._effects.append(fx.ApplyChanges(batches))

    def _on_ack(self, ack: Ack) -> None:
        sent = self._credit.acknowledged(ack.serial)
        if sent is None:
            return
        model, claim = sent
        link = self.links.get(model)
        if link is not None:
            if ack.taken:
                link.confirmed = joined(link.confirmed, claim)
            if ack.serial == link.push_serial:
                link.push_serial, link.push_refused = 0, not ack.taken
        self._push_again()
        self._serve_more()

    # -- pulls --------------------------------------------------------------------------------------------------

    def _pull_goes_on(self, link: ModelLink, round: int, now: float) -> None:
        if self._pull_deadline is not None and round and round == link.round:
            self._pull_deadline = now + self.config.pull_timeout

    def _end_pull(self, link: ModelLink) -> None:
        link.pulling, link.remaining = False, 0
        if not any(other.pulling for other in self.links.values()):
            self._pull_deadline = None
        self._effects.append(fx.PullDone(link.label))

    def _foreign(self, vector: Mapping[str, int]) -> Vector:
        """Leave out this start's own origin: of that nobody has more than we do, whatever a peer says."""
        return {origin: counter for origin, counter in vector.items() if origin != self.config.start}

    def _want(self, model: str, *, initial: bool = False) -> None:
        link = self.links[model]
        if link.takes and not link.wanted and not link.pulling:
            link.wanted = True
            self._effects.append(fx.WantPull(model, initial))

    def _closed(self, reason: str, is_error: bool) -> None:
        for link in self.links.values():
            link.pulling = False
        super()._closed(reason, is_error)
