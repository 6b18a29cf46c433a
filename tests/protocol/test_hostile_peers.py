"""A peer that got in and then breaks the rules: the session ends with a clear error, in bounded memory."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from p2p_replication.protocol import credit
from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import pack_rows
from p2p_replication.protocol.messages import Ack, Ping, Request, State
from tests.protocol.raw_peer import RawPeer, row, some_rows

HUGE = 2**63


@pytest.mark.parametrize(
    "values",
    [
        {"from_seq": -1},
        {"to_seq": HUGE},
        {"from_seq": 7, "to_seq": 6},
        {"push_from": -1, "round": 0},
        {"push_from": HUGE, "round": 0},
        {"round": -1},
        {"start": "s" * 17},
        {"start": "another"},
        {"continues": ("s", -1)},
        {"continues": ("s", HUGE)},
        {"claim": {"x" * 17: 1}},
        {"claim": {"": 1}},
        {"claim": {"peer": HUGE}},
        {"claim": {"peer": -1}},
        {"claim": {"peer": 3, "other": 3}, "round": 0},
    ],
    ids=str,
)
def test_a_batch_with_numbers_out_of_range_is_refused(values):
    """Storage must not meet what its columns can't hold, nor a push that speaks for others."""
    peer = RawPeer().open()
    peer.pull()
    peer.say(peer.batch(**values))
    assert peer.was_refused
    assert not peer.wanted(fx.ApplyChanges)


@pytest.mark.parametrize("span", [(0, 1), (2, 9), (3, 9)], ids=str)
def test_a_batch_whose_rows_lie_outside_its_span_is_refused(span):
    """A cursor would move to where the rows are."""
    peer = RawPeer().open()
    peer.pull()
    peer.say(peer.batch(row(2), from_seq=span[0], to_seq=span[1]))
    assert peer.was_refused


@pytest.mark.parametrize(
    "request_",
    [
        Request("m", 0, {}, "", 0),
        Request("m", 1, {}, "", -1),
        Request("m", 1, {}, "", HUGE),
        Request("m", 1, {}, "", 0, -1),
        Request("m", 1, {}, "", 0, 100_001),
        Request("m", 1, {"peer": -1}, "", 0),
        Request("m", 1, {"": 1}, "", 0),
        Request("m", 1, {}, "s" * 10_000, 0),
    ],
    ids=lambda request: repr(request)[:60],
)
def test_a_request_out_of_range_is_refused(request_):
    peer = RawPeer().open()
    peer.say(request_)
    assert peer.was_refused


@pytest.mark.parametrize("vector", [{"x" * 17: 1}, {"": 1}, {"\0": 1}, {"x": -1}, {"x": HUGE}], ids=str)
def test_an_announcement_out_of_range_is_refused(vector):
    peer = RawPeer().open()
    peer.say(State("m", vector))
    assert peer.was_refused


def test_origins_cannot_be_announced_without_end():
    """What one session remembers of a peer's vector is bounded, over all its messages."""
    peer = RawPeer().open()
    for part in range(3):
        peer.say(State("m", {f"{part}.{i}": 1 for i in range(60_000)}))
    assert peer.was_refused


@pytest.mark.parametrize("serial", [lambda n: n, lambda n: 1], ids=["rising serials", "one serial"])
def test_a_flood_without_waiting_for_acks_is_refused(serial):
    peer = RawPeer().open()
    numbers = itertools.count(1)
    rows = some_rows(60, 100_000)
    for _ in range(40):
        peer.say(peer.batch(rows=rows, to_seq=60, serial=serial(next(numbers))))
        if not peer.is_open:
            break
    assert peer.was_refused


def test_a_flood_before_the_decision_is_refused():
    """While the peer is looked up, what it sends already is bounded in bytes too."""
    peer = RawPeer().introduce()
    rows = some_rows(60, 100_000)
    for _ in range(40):
        peer.say(peer.batch(rows=rows, to_seq=60))
    assert peer.was_refused


def test_requests_that_do_not_wait_for_their_answers_do_not_pile_up():
    """One read at a time: a newer request takes the older one's place."""
    peer = RawPeer().open()
    for i in range(1, 1_000):
        peer.ask(round=i)
    assert len(peer.wanted(fx.ReadChanges)) < 10


def test_a_repeated_request_is_answered_once():
    """Two answers to one round would run side by side, each with its own position."""
    peer = RawPeer().open({"us": 9})
    peer.ask(round=1)
    peer.ask(round=1)
    reads = len(peer.wanted(fx.ReadChanges))
    for _ in range(reads):
        peer.read(3)
    assert len(peer.wanted(fx.ReadChanges)) == 1


def test_a_push_that_finds_nothing_is_not_asked_for_again():
    """A vector that names own changes never made (some peer claimed them) starts no endless work."""
    peer = RawPeer().open({"us": 5})
    peer.ask({"us": 5})
    peer.read(0, vector={"us": 5})
    peer.session.local_changed("m", {"us": 10**15})
    peer.look()
    reads = 0
    while peer.wanted(fx.ReadPush) and reads < 20:
        reads += 1
        peer.read_push(5, 5, some_rows(0))
    assert reads == 1


def test_what_is_unpacked_counts_as_on_its_way():
    """Some kilobytes on the wire may be megabytes in memory."""
    peer = RawPeer().open()
    rows = pack_rows(["title"], [row(1, "x" * 7_000_000)])
    for _ in range(40):
        peer.say(peer.batch(rows=rows, to_seq=1))
        if not peer.is_open:
            break
    assert peer.was_refused


def test_acks_for_batches_never_sent_are_ignored():
    peer = RawPeer().open({"us": 9})
    peer.say(Ack(77, True), Ack(-1, True))
    peer.ask()
    peer.read(3)
    peer.say(Ack(1, True), Ack(1, True))
    assert peer.is_open
    assert peer.session._credit.unacknowledged == 0


def test_pushes_do_not_hold_up_the_deadline_of_a_pull():
    """A peer may not keep our one outstanding pull for ever by sending other things."""
    peer = RawPeer().open()
    peer.pull()
    for i in range(1, 200):
        push = peer.batch(row(i), round=0, push_from=i - 1, claim={"peer": i})
        peer.say(push, Ping(i))
        if not peer.is_open:
            break
        peer.applied(push, {"peer": i})
        peer.tick(1.0)
    assert peer.was_refused


@pytest.mark.parametrize(
    "change", [{"clocks": []}, {"dot_origins": [7]}, {"dot_counters": [0]}, {"seqs": [0]}], ids=str
)
def test_rows_that_do_not_fit_together_never_reach_storage(change):
    peer = RawPeer().open()
    peer.pull()
    batch = peer.batch(row(1))
    peer.say(msgspec.structs.replace(batch, rows=msgspec.structs.replace(batch.rows, **change)))
    assert peer.was_refused
    assert not peer.wanted(fx.ApplyChanges)


def test_batches_without_end_are_refused(monkeypatch):
    """Also small ones, however little memory they take: each that waits costs a step for what passes it."""
    monkeypatch.setattr(credit, "MAX_UNAPPLIED_BATCHES", 5)
    peer = RawPeer().open()
    for _ in range(5):
        peer.say(peer.batch(round=0))
    assert peer.is_open
    peer.say(peer.batch(round=0))
    assert peer.was_refused
