"""Own changes are pushed: when, how many at a time, and what happens to those that are written meanwhile."""

from __future__ import annotations

import pytest

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.messages import Ack, Changes, State
from tests.protocol.raw_peer import RawPeer, caught_up, some_rows


def pushes_wanted(peer: RawPeer) -> list[dict[str, int]]:
    """Return what is to be read for each push that the session has wanted since the last call."""
    return [peer.session.push_wishes() for _ in peer.wanted(fx.ReadPush)]


def test_own_changes_are_pushed_to_a_peer_that_has_those_before():
    peer = caught_up({"us": 5})
    peer.session.local_changed("m", {"us": 6, "other": 3})
    peer.look()
    assert pushes_wanted(peer) == [{"m": 5}]
    peer.read_push(5, 6, some_rows(1))
    (push,) = peer.heard(Changes)
    assert (push.round, push.push_from, push.claim) == (0, 5, {"us": 6})
    assert not peer.wanted(fx.ReadPush)


def test_own_changes_wait_while_the_peer_pulls_and_follow_it():
    peer = RawPeer().open({"us": 5})
    peer.ask()
    peer.session.local_changed("m", {"us": 6})
    peer.look()
    assert not peer.wanted(fx.ReadPush)
    peer.read(5, vector={"us": 5})
    assert pushes_wanted(peer) == [{"m": 5}]


def test_nothing_is_pushed_before_the_peer_has_said_what_it_has():
    peer = RawPeer().open({"us": 5})
    peer.session.local_changed("m", {"us": 6})
    peer.tick(0.05)
    assert not peer.wanted(fx.ReadPush)
    assert not peer.heard(State)


def push_on_its_way(peer: RawPeer, counter: int) -> Changes:
    """Let an own change be written, read and pushed; return the push, which is not acknowledged yet."""
    peer.session.local_changed("m", {"us": counter})
    peer.look()
    peer.read_push(counter - 1, counter, some_rows(1))
    (push,) = peer.heard(Changes)
    peer.wanted(fx.ReadPush)
    return push


@pytest.mark.parametrize("taken", [True, False])
def test_changes_written_while_a_push_is_on_its_way_wait_for_its_ack(taken):
    peer = caught_up({"us": 5})
    push = push_on_its_way(peer, 6)
    for counter in range(7, 100):
        peer.session.local_changed("m", {"us": counter})
        peer.tick(0.05)
    assert not peer.wanted(fx.ReadPush)
    assert not peer.heard(State)  # An announcement would be followed by a pull, though a push will come.
    peer.say(Ack(push.serial, taken))
    if taken:
        assert pushes_wanted(peer) == [{"m": 6}]
        peer.read_push(6, 99, some_rows(3))
        assert [(c.push_from, c.claim) for c in peer.heard(Changes)] == [(6, {"us": 99})]
    else:
        assert not peer.wanted(fx.ReadPush)
        peer.tick(0.05)
        assert peer.heard(State) == [State("m", {"us": 99})]


def test_changes_written_while_a_push_is_read_follow_in_one_more():
    peer = caught_up({"us": 5})
    for counter in (6, 7, 8):
        peer.session.local_changed("m", {"us": counter})
        peer.look()
    assert pushes_wanted(peer) == [{"m": 5}]
    peer.read_push(5, 6, some_rows(1))
    (push,) = peer.heard(Changes)
    assert not peer.wanted(fx.ReadPush)
    peer.say(Ack(push.serial, True))
    assert pushes_wanted(peer) == [{"m": 6}]


def test_changes_of_others_are_announced_while_a_push_is_on_its_way():
    peer = caught_up({"us": 5})
    push_on_its_way(peer, 6)
    peer.session.local_changed("m", {"us": 7, "other": 1})
    peer.tick(0.05)
    assert peer.heard(State) == [State("m", {"other": 1})]


def test_a_push_that_is_not_taken_is_not_repeated():
    """The receiver pulls, as the claim says what it lacks; then changes are pushed again."""
    peer = caught_up({"us": 5})
    push = push_on_its_way(peer, 6)
    peer.say(Ack(push.serial, False))
    peer.tick(0.05)
    assert not peer.wanted(fx.ReadPush)
    assert not peer.heard(State)
    peer.ask({"us": 4}, round=2)
    peer.read(2, vector={"us": 6}, round=2)
    assert not peer.wanted(fx.ReadPush)
    peer.session.local_changed("m", {"us": 7})
    peer.look()
    assert pushes_wanted(peer) == [{"m": 6}]


def test_a_pull_that_begins_while_a_push_is_on_its_way_brings_what_waits():
    peer = caught_up({"us": 5})
    push = push_on_its_way(peer, 6)
    peer.session.local_changed("m", {"us": 7})
    peer.ask({"us": 5}, round=2)
    peer.say(Ack(push.serial, True))
    assert not peer.wanted(fx.ReadPush)
    peer.read(2, vector={"us": 7}, round=2)
    assert not peer.wanted(fx.ReadPush)
    assert peer.session.links["m"].to_announce("peer") == {}


def test_too_many_changes_for_a_push_are_announced():
    peer = caught_up({"us": 5})
    peer.session.local_changed("m", {"us": 600})
    peer.look()
    peer.read_push(5, 5, None)
    assert peer.heard(State) == [State("m", {"us": 600})]
    peer.tick(0.05)
    assert not peer.heard(State)
