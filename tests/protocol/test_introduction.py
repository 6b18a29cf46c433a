"""HELLO and AUTH: who gets in, who does not, and what both sides say of it."""

from __future__ import annotations

import msgspec
import pytest

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.conversation import shown
from p2p_replication.protocol.introduction import auth_payload, takes_new_identity
from p2p_replication.protocol.messages import Ack, Auth, Bye, Error, ModelOffer, Ping, Pong, Request, State
from p2p_replication.protocol.session import Phase, Session
from tests.protocol.raw_peer import OFFER, OURS, THEIRS, RawPeer, config


def talk(a: Session, b: Session) -> tuple[list[fx.Effect], list[fx.Effect]]:
    """Let two sessions talk until both are silent; return what each wanted besides sending."""
    wanted: tuple[list[fx.Effect], list[fx.Effect]] = ([], [])
    busy = True
    while busy:
        busy = False
        for one, other, seen in ((a, b, wanted[0]), (b, a, wanted[1])):
            for effect in one.drain():
                busy = True
                if isinstance(effect, fx.Send):
                    for frame in effect.frames:
                        other.receive(frame, 0.0)
                else:
                    seen.append(effect)
    return wanted


def two(ours: dict[str, object] | None = None, theirs: dict[str, object] | None = None) -> tuple[Session, Session]:
    flipped = {"local_fingerprint": THEIRS, "remote_fingerprint": OURS}
    return Session(config("a", **(ours or {})), 0.0), Session(config("b", **{**flipped, **(theirs or {})}), 0.0)


def test_two_replicas_introduce_each_other():
    a, b = two()
    seen = talk(a, b)
    assert a.phase is b.phase is Phase.INTRODUCED
    introduced = [effect for effects in seen for effect in effects if isinstance(effect, fx.PeerIntroduced)]
    assert [effect.hello.name for effect in introduced] == ["b", "a"]


@pytest.mark.parametrize("starts", [("1", "2"), ("2", "1"), ("same", "same"), ("", "1")])
def test_of_a_replica_and_its_living_copy_exactly_one_takes_a_new_identity(starts):
    """Both decide alone, by the later start; of a cloned machine, where both run under one, by the nonces."""
    ours, theirs = (config("a", start=start, nonce=bytes([n]) * 32) for n, start in enumerate(starts))
    decisions = [takes_new_identity(ours, theirs.hello()), takes_new_identity(theirs, ours.hello())]
    assert sorted(decisions) == [False, True]
    assert decisions[0] == (starts[0] > starts[1])


@pytest.mark.parametrize(
    "theirs",
    [
        {"topic": "another topic"},
        {"local_fingerprint": b"x" * 32},
        {"remote_fingerprint": b"x" * 32},
        {"local_fingerprint": OURS, "remote_fingerprint": THEIRS},
        {"sign": lambda payload: bytes(64)},
        {"sign": lambda payload: b""},
        {"public_key": bytes(32)},
        {"sign": config("somebody else").sign},
    ],
    ids=["topic", "between, their side", "between, our side", "swapped", "zeros", "empty", "odd key", "other key"],
)
def test_a_wrong_signature_is_refused(theirs):
    a, b = two(theirs=theirs)
    seen, _ = talk(a, b)
    assert a.phase is Phase.CLOSED
    assert not any(isinstance(effect, fx.PeerIntroduced) for effect in seen)


def test_what_was_heard_on_another_connection_is_refused():
    """Neither the nonces nor the certificates are the same there."""
    peer = RawPeer()
    auth = peer.auth()
    again = RawPeer(nonce=b"n" * 32)
    again.say(again.hello, auth)
    assert again.was_refused


def test_a_mirror_is_refused():
    """A peer that knows no key and only repeats what it is told."""
    session = Session(config(), 0.0)
    for _ in range(5):
        for effect in session.drain():
            assert not isinstance(effect, fx.PeerIntroduced)
            if isinstance(effect, fx.Send):
                for frame in effect.frames:
                    session.receive(frame, 0.0)
    assert session.phase is Phase.CLOSED


def test_the_parts_of_a_signed_payload_cannot_run_into_each_other():
    hello = config().hello()
    longer = msgspec.structs.replace(hello, replica=hello.replica + "x")
    assert auth_payload("t", hello, longer, b"", b"") != auth_payload("t", longer, hello, b"", b"")
    assert auth_payload("ta", hello, hello, b"b", b"") != auth_payload("t", hello, hello, b"ab", b"")


def test_another_protocol_version_is_named_on_both_sides():
    peer = RawPeer()
    peer.say(msgspec.structs.replace(peer.hello, protocol=2))
    assert peer.was_refused
    (error,) = peer.heard(Error)
    assert error.code == "version"
    assert "2" in error.text


@pytest.mark.parametrize(
    "field",
    [
        {"key": b"short"},
        {"nonce": b""},
        {"replica": ""},
        {"replica": "r" * 33},
        {"start": ""},
        {"start": "s" * 17},
        {"start": "s\0"},
        {"name": "n" * 201},
        {"models": [OFFER] * 1001},
    ],
    ids=str,
)
def test_a_malformed_hello_is_refused(field):
    peer = RawPeer()
    peer.say(msgspec.structs.replace(peer.hello, **field))
    assert peer.was_refused


def test_messages_in_the_wrong_phase_are_refused():
    for message in (State("m", {}), Request("m", 1, {}, "", 0), Auth(bytes(64))):
        peer = RawPeer()
        peer.say(message)
        assert peer.was_refused
    for phase in ("auth", "introduced", "open"):
        peer = RawPeer()
        if phase == "auth":
            peer.say(peer.hello)
        elif phase == "introduced":
            peer.introduce()
        else:
            peer.open()
        peer.effects.clear()
        peer.say(peer.hello)
        assert peer.was_refused


def test_what_comes_before_the_decision_waits_for_it():
    peer = RawPeer().introduce()
    peer.ask()
    assert not peer.wanted(fx.ReadChanges)
    peer.accept()
    assert peer.is_open
    assert peer.wanted(fx.ReadChanges)


def test_an_offence_before_the_decision_closes_the_session_behind_it():
    """Nothing is raised to the one who lets the peer in."""
    peer = RawPeer().introduce()
    peer.say(State("m", {"x" * 17: 1}), State("m", {"x" * 17: 1}))
    peer.accept()
    assert peer.was_refused


def test_a_peer_that_leaves_before_the_decision_is_not_let_in():
    peer = RawPeer().introduce()
    peer.say(Bye("changed my mind"))
    peer.accept()
    assert peer.session.phase is Phase.CLOSED


def test_a_peer_that_never_introduces_itself_is_given_up():
    """Signs of life alone do not hold a connection open."""
    peer = RawPeer()
    for i in range(600):
        peer.say(Ping(i))
        peer.tick(1.0)
    assert peer.was_refused


def test_heartbeats_are_answered_in_every_phase():
    for peer in (RawPeer(), RawPeer().introduce(), RawPeer().open()):
        peer.heard(Pong)
        peer.say(Ping(7))
        assert peer.heard(Pong) == [Pong(7)]


@pytest.mark.parametrize(
    "offer",
    [
        ModelOffer("m", {"": "text", "title": "integer"}),
        ModelOffer("m", {"": "integer", "title": "text"}),
        ModelOffer("m", {"": "slug: text", "title": "text"}),
        ModelOffer("m", {"": "text", "title": "text"}, {"title": "max"}),
        ModelOffer("m", {"": "text", "title": "text"}, {}, "owner=1"),
    ],
    ids=["field", "key", "named key", "merge", "filter"],
)
def test_models_that_disagree_are_refused_on_both_sides_and_others_go_on(offer):
    other = ModelOffer("n", {"": "text"})
    a, b = two({"models": (OFFER, other)}, {"models": (offer, other)})
    seen = talk(a, b)
    texts = [[(e.text, e.model) for e in effects if isinstance(e, fx.PeerError)] for effects in seen]
    assert texts[0] == texts[1]
    assert [model for _, model in texts[0]] == ["m"]
    assert a.links.keys() == b.links.keys() == {"n"}


def test_fields_that_one_side_lacks_and_models_that_one_side_lacks_are_no_disagreement():
    more = ModelOffer("m", {"": "text", "title": "text", "stars": "integer"})
    a, b = two({"models": (OFFER, ModelOffer("n", {}))}, {"models": (more,)})
    seen = talk(a, b)
    assert not any(isinstance(effect, fx.PeerError) for effects in seen for effect in effects)
    assert a.links.keys() == b.links.keys() == {"m"}


def test_a_model_nobody_knows_is_ignored():
    peer = RawPeer().open()
    batch = peer.batch(model="unknown")
    peer.say(State("unknown", {"peer": 1}), Request("unknown", 1, {}, "", 0), batch)
    assert peer.is_open
    assert not peer.wanted(fx.ReadChanges)
    assert [type(message) for message in peer.said[-1:]] == [Ack]  # It takes no credit from the others.


def test_a_peers_texts_carry_no_control_characters():
    """They go to logs and terminals."""
    assert shown("caf\u00e9 \x1b[31mred\n\x00") == "caf\u00e9 ?[31mred??"
    assert len(shown("x" * 10_000)) == 500
