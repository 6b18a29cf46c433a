"""Messages that belong together: what follows is waited for, whatever the clock says, but not for ever."""

from __future__ import annotations

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.messages import Ack, Changes, ModelOffer, Request, State
from tests.protocol.raw_peer import OFFER, RawPeer, some_rows

BOTH = (OFFER, ModelOffer("n", OFFER.fields))


def met() -> RawPeer:
    peer = RawPeer(models=BOTH)
    peer.hello = peer.hello.__class__(*[list(BOTH) if value == [OFFER] else value for value in _values(peer)])
    return peer.open({"us": 5})


def _values(peer: RawPeer) -> list[object]:
    return [getattr(peer.hello, name) for name in peer.hello.__struct_fields__]


def batches(peer: RawPeer) -> list[list[str]]:
    return [[changes.model for changes in effect.batches] for effect in peer.wanted(fx.ApplyChanges)]


def test_batches_that_belong_together_are_applied_together() -> None:
    peer = met()
    peer.say(peer.batch(round=0, more=True))
    peer.tick(0.5)
    assert batches(peer) == []
    peer.say(peer.batch(model="n", round=0))
    assert batches(peer) == [["m", "n"]]


def test_a_batch_whose_companion_never_comes_is_applied_alone_in_the_end() -> None:
    peer = met()
    peer.say(peer.batch(round=0, more=True))
    for _ in range(20):
        peer.tick(0.5)
        peer.say(Ack(99, True))  # a sign of life
    assert batches(peer) == [["m"]]


def test_a_companion_of_a_model_that_is_refused_is_waited_for_no_longer() -> None:
    peer = met()
    peer.say(peer.batch(round=0, more=True), peer.batch(model="unknown", round=0))
    assert batches(peer) == [["m"]]
    peer.say(Request("m", 1, {}, "", 0, more=True), Request("unknown", 1, {}, "", 0))
    assert len(peer.wanted(fx.ReadChanges)) == 1


def test_requests_that_belong_together_are_answered_together() -> None:
    peer = met()
    peer.say(Request("m", 1, {}, "", 0, more=True))
    peer.tick(0.5)
    assert not peer.wanted(fx.ReadChanges)
    peer.say(Request("n", 1, {}, "", 0))
    assert len(peer.wanted(fx.ReadChanges)) == 1
    assert [wish.model for wish in peer.session.pull_wishes()] == ["m", "n"]


def test_announcements_that_belong_together_are_followed_together() -> None:
    peer = met()
    for model in "mn":
        batch = peer.batch(model=model, claim={"us": 5})
        peer.session.pull({model: ({"us": 5}, ("", 0, 0))}, peer.now)
        peer.say(batch)
        peer.applied(batch, {"us": 5})
    peer.wanted(fx.WantPull)
    peer.say(State("m", {"other": 3}, more=True))
    peer.tick(0.5)
    assert not peer.wanted(fx.WantPull)
    peer.say(State("n", {"other": 4}))
    assert [wish.model for wish in peer.wanted(fx.WantPull)] == ["m", "n"]


def test_a_push_covers_all_models_and_says_so() -> None:
    peer = met()
    for model in "mn":
        peer.ask({"us": 5}, model=model)
    wishes = peer.session.pull_wishes()
    peer.session.changes_read(wishes, [peer.read_batch(5, {"us": 5}) for _ in wishes])
    peer.session.local_changed("n", {"us": 7})
    peer.look()
    peer.heard(Changes)
    assert len(peer.wanted(fx.ReadPush)) == 1
    assert peer.session.push_wishes() == {"m": 5, "n": 5}
    pushes = {model: peer.push_batch(5, 7, some_rows(1)) for model in "mn"}
    peer.session.push_read(pushes)
    peer.look()
    assert [(push.model, push.claim, push.more) for push in peer.heard(Changes)] == [
        ("m", {"us": 7}, True),
        ("n", {"us": 7}, False),
    ]
