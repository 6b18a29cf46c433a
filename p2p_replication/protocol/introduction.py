"""The introduction of two replicas: HELLO and AUTH, and which models they agree on.

AUTH signs the topic, both replicas, both transport certificates and both nonces: whoever sits between two peers, or
repeats what it heard, has other certificates or another nonce.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from p2p_replication.protocol.changes import is_origin
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.messages import PROTOCOL_VERSION, Auth, Hello, ModelOffer

#: The feature that a HELLO names if its sender answers a DIGEST_REQUEST.
DIGESTS = "digests"


@dataclass(frozen=True)
class SessionConfig:
    """What a session is told at its start.

    Args:
        sign: ``payload -> signature`` with this replica's key.
        verify: ``(public key, signature, payload) -> bool``.
        local_fingerprint, remote_fingerprint: of the transport's certificates; both ends sign them.
        window: bytes of unacknowledged batches that may be on their way to the peer.
        heartbeat, timeout: seconds of silence until a PING, and until the peer is given up.
    """

    replica_id: str
    start: str
    name: str
    topic: str
    public_key: bytes
    nonce: bytes
    now_ms: int
    models: tuple[ModelOffer, ...]
    sign: Callable[[bytes], bytes]
    verify: Callable[[bytes, bytes, bytes], bool]
    local_fingerprint: bytes = b""
    remote_fingerprint: bytes = b""
    window: int = 256 * 1024
    heartbeat: float = 2.5
    timeout: float = 8.0
    pull_timeout: float = 60.0
    introduction_timeout: float = 15.0
    batch_sizes: Mapping[str, int] = field(default_factory=dict)

    def hello(self) -> Hello:
        """Return this side's HELLO."""
        return Hello(
            PROTOCOL_VERSION, self.replica_id, self.public_key, self.nonce, self.start, self.name, self.now_ms,
            list(self.models), [DIGESTS],
        )  # fmt: skip

    def auth(self, ours: Hello, theirs: Hello) -> Auth:
        """Return this side's AUTH for a peer."""
        return Auth(self.sign(auth_payload(self.topic, ours, theirs, self.local_fingerprint, self.remote_fingerprint)))

    def is_authentic(self, auth: Auth, ours: Hello, theirs: Hello) -> bool:
        """Tell whether the peer holds the key it named, on this very connection."""
        payload = auth_payload(self.topic, theirs, ours, self.remote_fingerprint, self.local_fingerprint)
        return self.verify(theirs.key, auth.signature, payload)


def auth_payload(topic: str, signer: Hello, other: Hello, signer_print: bytes, other_print: bytes) -> bytes:
    """Return what AUTH signs: this topic, these two replicas, certificates and nonces, in the signer's order."""
    parts = [b"p2p_replication auth 1", topic.encode(), signer.replica.encode(), other.replica.encode(), signer.key,
             other.key, signer_print, other_print, signer.nonce, other.nonce]  # fmt: skip
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def takes_new_identity(config: SessionConfig, theirs: Hello) -> bool:
    """Tell which of two replicas with one identity, a database and its living copy, takes a new one.

    Both come to the same end: the later start, which is the copy's unless the original was started again since.
    """
    return (config.start, config.nonce) > (theirs.start, theirs.nonce)


def check_hello(hello: Hello) -> None:
    """Raise RemoteProtocolError for a HELLO that no correct peer sends."""
    if len(hello.key) != 32 or len(hello.nonce) != 32 or not 1 <= len(hello.replica) <= 32:
        raise RemoteProtocolError("a HELLO with a malformed key, nonce or replica id")
    if not is_origin(hello.start) or len(hello.name) > 200 or len(hello.models) > 1000:
        raise RemoteProtocolError("a HELLO with an overlong field")
    if len(hello.features) > 100:
        raise RemoteProtocolError("a HELLO with too many features")


def disagreement(ours: ModelOffer, theirs: ModelOffer) -> str:
    """Say why a model can't replicate between two offers of it, or return an empty text. Both sides find the same."""
    for name in sorted(ours.fields.keys() & theirs.fields.keys()):
        if ours.fields[name] != theirs.fields[name]:
            kinds = " and ".join(sorted((ours.fields[name], theirs.fields[name])))
            return f"{ours.label}.{name} has two types, {kinds}: migrate both sides to the same one"
    if ours.fields.get("") != theirs.fields.get(""):
        kinds = " and ".join(sorted(str(offer.fields.get("")) for offer in (ours, theirs)))
        return f"{ours.label} has two kinds of key, {kinds}: let both sides have the same one"
    if ours.merge != theirs.merge:
        return f"{ours.label} declares different merges on the two sides: give both the same"
    if ours.filter != theirs.filter:
        return f"{ours.label} has two filters: give both sides the same where=, or the other subset its own topic"
    return ""
