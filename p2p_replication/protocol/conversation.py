"""A conversation with one peer, whatever it is about: frames, the introduction, heartbeats, and its end. Sans-IO."""

from __future__ import annotations

import msgspec

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.framing import Decoder, Encoder, RemoteProtocolError
from p2p_replication.protocol.introduction import SessionConfig, check_hello
from p2p_replication.protocol.messages import PROTOCOL_VERSION, Auth, Bye, Error, Hello, Message, Ping, Pong
from p2p_replication.protocol.phases import ALLOWED, Phase

#: How much longer than the other side one of the two waits with its PING.
SECOND_HEARTBEAT = 1.3


class Conversation:
    """The part of a session that knows nothing of rows.

    Call a method for each event, then ``drain()`` for what has to be done. Methods never raise for anything the peer
    did: that ends in a ``Closed`` effect.
    """

    def __init__(self, config: SessionConfig, now: float) -> None:
        self.config = config
        self.phase = Phase.HELLO
        self.peer: Hello | None = None
        self.bytes_in = self.bytes_out = 0
        #: Frames sent that were no heartbeats.
        self.frames_out = 0
        self._encoder, self._decoder = Encoder(), Decoder()
        self._effects: list[fx.Effect] = []
        self._opened = self._heard = self._pinged = now
        #: Size of the message at hand, unpacked.
        self._message_bytes = 0
        self._hello = config.hello()
        self._send(self._hello)

    def drain(self) -> list[fx.Effect]:
        """Return the effects that have gathered, in the order in which they must be carried out."""
        gathered, self._effects = self._effects, []
        return gathered

    def traffic(self) -> dict[str, int]:
        """Return what has crossed the channel so far."""
        return {
            "channel_bytes_in": self.bytes_in,
            "channel_bytes_out": self.bytes_out,
            "channel_frames_out": self.frames_out,
        }

    def receive(self, frame: bytes, now: float) -> None:
        """Take one frame from the peer."""
        if self.phase is Phase.CLOSED:
            return
        self._heard = now
        self.bytes_in += len(frame)
        try:
            message = self._decoder.feed(frame, ALLOWED[self.phase])
        except RemoteProtocolError as error:
            self._broken(error)
            return
        if message is not None:
            self._message_bytes = self._decoder.unpacked
            self._handle(message, now)

    def tick(self, now: float) -> None:
        """Let time pass: heartbeats and time-outs."""
        if self.phase is Phase.CLOSED:
            return
        if now - self._heard >= self.config.timeout:
            self.close(f"no sign of life for {self.config.timeout:g} s", is_error=True)
            return
        if self.phase in (Phase.HELLO, Phase.AUTH) and now - self._opened >= self.config.introduction_timeout:
            self.close(f"no introduction within {self.config.introduction_timeout:g} s", is_error=True)
            return
        if now - max(self._heard, self._pinged) >= self._patience:
            self._pinged = now
            self._send(Ping(int(now * 1000)))

    @property
    def _patience(self) -> float:
        """Seconds of silence until a PING. One side has more, or both would ask at the same moment, and both answer."""
        is_second = self.peer is not None and self._hello.nonce > self.peer.nonce
        return self.config.heartbeat * (SECOND_HEARTBEAT if is_second else 1.0)

    def close(self, reason: str, *, code: str = "", is_error: bool = False) -> None:
        """End the session; the peer is told why."""
        if self.phase is Phase.CLOSED:
            return
        self._send(Error(code, reason) if code else Bye(reason))
        self._closed(reason, is_error)

    def connection_lost(self, reason: str) -> None:
        """The transport has ended."""
        if self.phase is not Phase.CLOSED:
            self._closed(reason, False)

    # -- what the replication adds -----------------------------------------------------------------------------------

    def _introduced(self, peer: Hello) -> None:
        """The peer has proven its key."""
        self._effects.append(fx.PeerIntroduced(peer))

    def _refused(self, model: str, text: str) -> None:
        """The peer has ended one model's part."""

    def _replicate(self, message: Message, now: float) -> None:
        """Take a message that is about rows."""

    # -- messages ------------------------------------------------------------------------------------------------

    def _handle(self, message: Message, now: float) -> None:
        try:
            self._dispatch(message, now)
        except RemoteProtocolError as error:
            self._broken(error)

    def _broken(self, error: RemoteProtocolError) -> None:
        self.close(f"the peer broke the protocol: {error}", code="protocol", is_error=True)

    def _dispatch(self, message: Message, now: float) -> None:
        if not isinstance(message, ALLOWED[self.phase]):
            raise RemoteProtocolError(f"{type(message).__name__} while {self.phase.value}")
        match message:
            case Hello():
                self._on_hello(message)
            case Auth():
                self._on_auth(message)
            case Ping():
                self._send(Pong(message.time))
            case Pong():
                pass
            case Bye():
                self._closed(f"the peer left: {shown(message.reason)}", False)
            case Error() if message.model:
                self._refused(message.model, f"the peer says: {shown(message.text)}")
            case Error():
                self._closed(f"the peer says: {shown(message.text)}", True)
            case _:
                self._replicate(message, now)

    def _on_hello(self, hello: Hello) -> None:
        if hello.protocol != PROTOCOL_VERSION:
            text = f"protocol {hello.protocol}; this side speaks {PROTOCOL_VERSION}: update the older side"
            self.close(text, code="version", is_error=True)
            return
        check_hello(hello)
        self.peer = msgspec.structs.replace(hello, name=shown(hello.name))
        self.phase = Phase.AUTH
        self._send(self.config.auth(self._hello, hello))

    def _on_auth(self, auth: Auth) -> None:
        peer = self.peer
        assert peer is not None
        if not self.config.is_authentic(auth, self._hello, peer):
            text = "the peer's signature is wrong: another topic, or somebody between the two"
            self.close(text, code="auth", is_error=True)
            return
        self.phase = Phase.INTRODUCED
        self._introduced(peer)

    def _send(self, message: Message) -> int:
        frames = self._encoder.encode(message)
        size = sum(map(len, frames))
        self.bytes_out += size
        if not isinstance(message, (Ping, Pong)):
            self.frames_out += len(frames)
        self._effects.append(fx.Send(frames))
        return size

    def _closed(self, reason: str, is_error: bool) -> None:
        self.phase = Phase.CLOSED
        self._effects.append(fx.Closed(reason, is_error))


def shown(text: str) -> str:
    """Return a peer's text as it may go to a log or a terminal: not too long, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:500])
