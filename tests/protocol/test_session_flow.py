"""What an open session does: heartbeats, pulls, pushes, announcements, and the window that bounds what is sent."""

from __future__ import annotations

import pytest

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.messages import Ack, Changes, Error, Ping, Request, State
from p2p_replication.protocol.session import Phase
from tests.protocol.raw_peer import OFFER, RawPeer, caught_up, row, some_rows


def test_a_silent_peer_is_asked_and_then_given_up():
    peer = RawPeer(nonce=bytes(32)).open()
    peer.heard(Ping)
    peer.tick(2.4)
    assert not peer.heard(Ping)
    peer.tick(0.2)
    assert len(peer.heard(Ping)) == 1
    peer.tick(0.2)
    assert not peer.heard(Ping)  # Once in a while is enough.
    peer.tick(5.3)
    assert peer.was_refused
    assert peer.now > 8


def test_one_of_two_that_are_silent_asks_first():
    """Both are looked at in the same moments: two questions and two answers would be one too many."""
    asked = []
    for nonce in (bytes(32), b"\xff" * 32):
        peer = RawPeer(nonce=nonce).open()
        peer.heard(Ping)
        peer.tick(2.5)
        asked.append(len(peer.heard(Ping)))
        peer.tick(1.0)
        asked.append(len(peer.heard(Ping)))
    assert asked == [1, 0, 0, 1]


@pytest.mark.parametrize("nonce", [bytes(32), b"\xff" * 32])
def test_a_peer_that_answers_stays(nonce):
    peer = RawPeer(nonce=nonce).open()
    for _ in range(100):
        peer.tick(2.5)
        peer.say(*peer.heard(Ping))
    assert peer.is_open


def test_a_pull_asks_from_the_cursor_with_the_vector():
    peer = RawPeer(batch_sizes={"m": 7}).open({"us": 3})
    assert peer.wanted(fx.WantPull) == [fx.WantPull("m", initial=True)]
    peer.session.pull({"m": ({"us": 3, "peer": 2}, ("start", 9, 12))}, 0.0)
    peer.look()
    assert peer.heard(Request) == [Request("m", 1, {"us": 3, "peer": 2}, "start", 9, 7, 12)]


def test_what_came_while_the_position_was_read_is_not_asked_for_again():
    peer = caught_up({"peer": 5})
    peer.session.pull({"m": ({"peer": 3}, ("start", 9, 12))}, 0.0)
    peer.look()
    assert [request.vector for request in peer.heard(Request)] == [{"peer": 5}]


def test_a_pull_that_gets_no_answer_ends_the_session():
    peer = RawPeer().open()
    peer.pull()
    for i in range(59):
        peer.say(Ping(i))
        peer.tick(1.0)
    assert peer.is_open
    peer.say(Ping(0))
    peer.tick(1.0)
    assert peer.was_refused


def test_a_pull_may_take_long_while_batches_come():
    peer = RawPeer().open()
    peer.pull()
    for i in range(10):
        peer.tick(7.0)
        batch = peer.batch(row(i + 1), from_seq=i, to_seq=i + 1, claim=None)
        peer.say(batch)
        peer.applied(batch, {})
    assert peer.is_open
    assert not peer.wanted(fx.PullDone)


@pytest.mark.parametrize("by_peer", [False, True], ids=["by us", "by the peer"])
def test_a_model_that_is_refused_while_it_is_pulled_leaves_the_session_alone(by_peer):
    peer = RawPeer(models=(OFFER,)).open()
    peer.pull()
    if by_peer:
        peer.say(Error("model", "not this one", "m"))
    else:
        peer.session.refuse_model("m", "not this one")
        peer.look()
    assert len(peer.wanted(fx.PullDone)) == 1
    for i in range(120):
        peer.say(Ping(i))
        peer.tick(1.0)
    assert peer.is_open


def test_batches_of_a_refused_model_take_no_room_from_the_others():
    peer = RawPeer(window=1000).open({"us": 9})
    peer.ask()
    peer.read(20, size=100)
    peer.session.refuse_model("m", "not this one")
    peer.look()
    peer.say(Ack(1, False))
    assert peer.session._credit.unacknowledged == 0


def test_the_last_batch_of_a_pull_ends_it():
    peer = RawPeer().open()
    peer.wanted(fx.WantPull)
    peer.pull()
    first = peer.batch(row(1), claim=None)
    last = peer.batch(row(2), from_seq=1, to_seq=2, claim={"peer": 2})
    peer.say(first)
    peer.applied(first, {})
    assert not peer.wanted(fx.PullDone)
    peer.say(last)
    peer.applied(last, {"peer": 2})
    assert peer.wanted(fx.PullDone) == [fx.PullDone("m")]
    assert peer.heard(Ack) == [Ack(1, True), Ack(2, True)]
    assert peer.session.links["m"].complete


def test_changes_of_others_are_announced_once_and_gathered():
    peer = caught_up({"us": 5})
    for counter in range(1, 20):
        peer.session.local_changed("m", {"us": 5, "other": counter})
    peer.look()
    assert peer.session.wants_tick_soon
    peer.tick(0.05)
    assert peer.heard(State) == [State("m", {"other": 19})]
    assert not peer.session.wants_tick_soon
    peer.session.local_changed("m", {"us": 5, "other": 19})
    peer.tick(0.05)
    assert not peer.heard(State)


def test_what_the_peer_has_is_not_announced_to_it():
    peer = caught_up({"us": 5})
    peer.say(State("m", {"other": 19}))
    peer.session.local_changed("m", {"us": 5, "other": 19})
    peer.tick(0.05)
    assert not peer.heard(State)


def test_a_peer_learns_that_its_own_changes_have_come_by_another_way():
    """It announced them, and we had them from somebody else before we asked: else it never knows that they arrived."""
    peer = caught_up({"us": 5})
    peer.say(State("m", {"peer": 7}))
    peer.session.local_changed("m", {"us": 5, "peer": 7})
    peer.tick(0.05)
    assert peer.heard(State) == [State("m", {"peer": 7})]
    peer.session.local_changed("m", {"us": 5, "peer": 7, "other": 1})
    peer.tick(0.05)
    assert peer.heard(State) == [State("m", {"other": 1})]


def test_a_peer_whose_push_was_taken_is_told_no_more():
    peer = caught_up({"us": 5})
    push = peer.batch(row(1), round=0, claim={"peer": 1})
    peer.say(push)
    peer.applied(push, {"us": 5, "peer": 1})
    peer.session.local_changed("m", {"us": 5, "peer": 1})
    peer.tick(0.05)
    assert not peer.heard(State)


def test_a_push_from_above_the_vector_is_followed_by_a_pull():
    peer = caught_up({"us": 5})
    push = peer.batch(row(9), round=0, push_from=8, claim={"peer": 9})
    peer.say(push)
    peer.applied(push, {"us": 5}, taken=False)
    assert peer.heard(Ack) == [Ack(push.serial, False)]
    assert peer.wanted(fx.WantPull) == [fx.WantPull("m")]
    assert peer.session.links["m"].lacks_announced()


def test_a_pull_whose_claim_is_not_taken_is_repeated():
    """Something is missing before the batch: whatever vectors say, the peer is asked again."""
    peer = caught_up({"us": 5})
    peer.pull({"us": 5})
    batch = peer.batch(row(9), from_seq=8, to_seq=9, claim={"us": 5}, round=2)
    peer.say(batch)
    peer.applied(batch, {"us": 5}, taken=False)
    assert peer.wanted(fx.WantPull) == [fx.WantPull("m", initial=True)]


def test_an_announcement_is_followed_by_one_wish_to_pull():
    peer = caught_up({"us": 5})
    peer.say(State("m", {"peer": 1}), State("m", {"peer": 2}), State("m", {"us": 4}))
    assert peer.wanted(fx.WantPull) == [fx.WantPull("m")]


def test_what_is_announced_during_a_pull_is_pulled_after_it():
    peer = caught_up({"us": 5})
    peer.pull({"us": 5})
    batch = peer.batch(claim={"peer": 5}, round=2)
    peer.say(batch, State("m", {"peer": 6}))
    assert not peer.wanted(fx.WantPull)
    peer.applied(batch, {"us": 5, "peer": 5})
    assert peer.wanted(fx.WantPull) == [fx.WantPull("m")]


def test_a_change_announced_before_an_older_claim_is_asked_for_once_more():
    """Over a transport that does not keep the order; of its own changes, the peer has what it announces."""
    peer = caught_up({"us": 5})
    for round, wanted in ((2, [fx.WantPull("m")]), (3, [])):
        peer.pull({"us": 5})
        batch = peer.batch(claim={"peer": 5}, round=round)
        peer.say(State("m", {"peer": 6}), batch)
        peer.applied(batch, {"us": 5, "peer": 5})
        assert peer.wanted(fx.WantPull) == wanted


def test_a_claim_replaces_what_was_announced_before():
    """A peer that does not have any more what it announced must not be asked for it again and again."""
    peer = caught_up({"us": 5})
    peer.say(State("m", {"other": 9}))
    peer.pull({"us": 5})
    batch = peer.batch(claim={"peer": 5}, round=2)
    peer.say(batch)
    peer.applied(batch, {"us": 5, "peer": 5})
    peer.wanted(fx.Closed)
    assert peer.session.links["m"].complete
    assert not peer.wanted(fx.WantPull)


def test_unacknowledged_batches_stay_within_the_window_and_one_batch():
    peer = RawPeer(window=5_000).open({"us": 10_000})
    peer.ask()
    sent: dict[int, int] = {}
    largest = on_its_way = 0
    for _ in range(300):
        if peer.wanted(fx.ReadChanges):
            before = peer.session.bytes_out
            peer.read(10, size=200)
            (batch,) = peer.heard(Changes)
            sent[batch.serial] = peer.session.bytes_out - before
            largest = max(largest, sent[batch.serial])
            on_its_way = max(on_its_way, sum(sent.values()))
        else:
            serial = min(sent)
            del sent[serial]
            peer.say(Ack(serial, True))
    assert 5_000 <= on_its_way < 5_000 + largest
    assert peer.serial == 0
    assert len(sent) > 1


def test_a_push_does_not_wait_for_credit_that_a_pull_has_used_up():
    """One at a time goes beyond the window: a live change must not wait for another model's first sync."""
    peer = RawPeer(window=100).open({"us": 5})
    peer.ask()
    peer.read(20, vector={"us": 5}, size=100)
    peer.session.local_changed("m", {"us": 6})
    peer.look()
    assert len(peer.wanted(fx.ReadPush)) == 1
    peer.read_push(5, 6, some_rows(1))
    (_, push) = peer.heard(Changes)
    peer.session.local_changed("m", {"us": 7})
    peer.look()
    assert not peer.wanted(fx.ReadPush)
    peer.say(Ack(push.serial, True))
    assert len(peer.wanted(fx.ReadPush)) == 1


def test_a_peer_that_says_it_has_a_change_has_confirmed_it():
    """It may have it from another peer: waiting until the pool is in sync must not wait for an ACK that never comes."""
    peer = caught_up({"us": 5})
    peer.session.local_changed("m", {"us": 6})
    peer.look()
    peer.read_push(5, 6, some_rows(1))
    (push,) = peer.heard(Changes)
    peer.say(Ack(push.serial, False), State("m", {"us": 6}))
    assert peer.session.links["m"].confirmed["us"] == 6


def test_the_answer_to_a_pull_confirms_what_the_peer_has():
    """It says so with its vector, and does not say it again."""
    peer = caught_up({"us": 5})
    peer.session.local_changed("m", {"us": 6})
    peer.pull({"us": 6})
    batch = peer.batch(claim={"us": 6, "peer": 5}, round=2)
    peer.say(batch)
    peer.applied(batch, {"us": 6, "peer": 5})
    assert peer.session.links["m"].confirmed == {"us": 6, "peer": 5}


def test_a_goodbye_ends_the_session_without_fault():
    peer = RawPeer().open()
    peer.session.close("see you")
    assert peer.session.phase is Phase.CLOSED
    assert not peer.was_refused
    peer.session.connection_lost("again")
    peer.session.local_changed("m", {"us": 6})
    peer.session.tick(100.0)
    peer.session.pull({"m": ({}, ("", 0, 0))}, 100.0)
    peer.look()
    assert len(peer.wanted(fx.Closed)) == 1
    assert not peer.heard(Request)
