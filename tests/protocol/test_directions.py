"""``pull=None`` and ``push=None`` in a session: what two members send, ask and refuse, in every combination."""

from __future__ import annotations

from itertools import product
from typing import Any

import msgspec
import pytest

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import ReadBatch
from p2p_replication.protocol.messages import Ack, Changes, Request, State
from p2p_replication.protocol.model_link import ModelLink
from tests.protocol.raw_peer import OFFER, RawPeer, row, some_rows

COMBINATIONS = [
    (ours, theirs) for ours, theirs in product(product((True, False), repeat=2), repeat=2) if any(ours) and any(theirs)
]


def directed(pulls: bool = True, pushes: bool = True) -> Any:
    return msgspec.structs.replace(OFFER, pulls=pulls, pushes=pushes)


def met(ours: tuple[bool, bool] = (True, True), theirs: tuple[bool, bool] = (True, True)) -> RawPeer:
    peer = RawPeer(models=(directed(*ours),))
    peer.hello = msgspec.structs.replace(peer.hello, models=[directed(*theirs)])
    return peer.open({"us": 5})


@pytest.mark.parametrize(("ours", "theirs"), COMBINATIONS)
def test_both_ends_see_the_same_two_directions(ours: tuple[bool, bool], theirs: tuple[bool, bool]) -> None:
    one = ModelLink.between(directed(*ours), directed(*theirs))
    other = ModelLink.between(directed(*theirs), directed(*ours))
    assert (one.takes, one.gives) == (other.gives, other.takes)
    assert one.takes is (ours[0] and theirs[1])


@pytest.mark.parametrize(("ours", "theirs"), COMBINATIONS)
def test_a_side_asks_only_where_rows_come_that_way(ours: tuple[bool, bool], theirs: tuple[bool, bool]) -> None:
    peer = met(ours, theirs)
    takes = ours[0] and theirs[1]
    assert bool(peer.wanted(fx.WantPull)) is takes
    peer.session.pull({"m": ({"us": 5}, ("", 0, 0))}, 0.0)
    peer.look()
    assert bool(peer.heard(Request)) is takes
    if not takes:
        assert peer.session.links["m"].complete, "there is nothing to wait for"
        peer.say(State("m", {"peer": 9}))
        assert not peer.wanted(fx.WantPull)
        assert peer.session.links["m"].complete


@pytest.mark.parametrize(("ours", "theirs"), [((True, False), (True, True)), ((True, True), (False, True))])
def test_where_nothing_is_given_nothing_is_pushed_or_announced(
    ours: tuple[bool, bool], theirs: tuple[bool, bool]
) -> None:
    peer = met(ours, theirs)
    peer.session.local_changed("m", {"us": 7, "other": 3})
    peer.tick(0.1)
    assert not peer.wanted(fx.ReadPush)
    assert peer.heard(State) == []
    peer.say(Request("m", 1, {}, "", 0, 0))
    assert peer.was_refused


def test_who_gives_nothing_still_says_what_of_the_peers_has_arrived() -> None:
    """The peer waits for the word that its changes are here, whoever brought them."""
    peer = met((True, False))
    peer.session.local_changed("m", {"us": 7, "peer": 3, "other": 3})
    peer.tick(0.1)
    assert peer.heard(State) == [State("m", {"peer": 3})]


@pytest.mark.parametrize(("ours", "theirs"), [((False, True), (True, True)), ((True, True), (True, False))])
def test_rows_that_come_the_wrong_way_are_refused(ours: tuple[bool, bool], theirs: tuple[bool, bool]) -> None:
    peer = met(ours, theirs)
    peer.wanted(fx.ApplyChanges)
    peer.say(peer.batch(row(1), round=0, from_seq=0, to_seq=0, claim={"peer": 1}))
    assert not [effect for effect in peer.effects if isinstance(effect, fx.ApplyChanges)]
    assert peer.was_refused


def test_who_takes_nothing_pushes_as_ever() -> None:
    peer = met((False, True))
    peer.say(Request("m", 1, {}, "", 0, 0))
    assert peer.wanted(fx.ReadChanges)
    peer.read(0, vector={"us": 5})
    (sent,) = peer.heard(Changes)
    peer.say(Ack(sent.serial, True))
    assert peer.session.links["m"].confirmed == {"us": 5}
    peer.session.local_changed("m", {"us": 6})
    peer.look()
    assert peer.wanted(fx.ReadPush) and peer.session.push_wishes() == {"m": 5}


def test_what_is_not_claimed_is_told_once() -> None:
    """A modifier may have left out some of it: the peer, which lacks it after its pull, must not be called again."""
    peer = met()
    peer.say(Request("m", 1, {}, "", 0, 0))
    peer.session.local_changed("m", {"us": 5, "other": 3})
    batch = ReadBatch("us", 0, 0, some_rows(0), 0, {"us": 5}, unclaimed={"other": 3})
    peer.session.changes_read(peer.session.pull_wishes(), [batch])
    peer.tick(0.1)
    assert peer.heard(State) == []
    peer.session.local_changed("m", {"us": 5, "other": 4})
    peer.tick(0.1)
    assert peer.heard(State) == [State("m", {"other": 4})]
