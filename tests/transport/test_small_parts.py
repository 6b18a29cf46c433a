"""Backoff, inbox, instances, SDP checks."""

from __future__ import annotations

import asyncio

import pytest

from p2p_replication.exceptions import ConnectionClosed
from p2p_replication.transport.backoff import GOOD_AFTER, Backoff
from p2p_replication.transport.base import RemotePeer
from p2p_replication.transport.inbox import Inbox
from p2p_replication.transport.instances import choose_peer_ids, is_other_start
from p2p_replication.transport.sdp import BadDescription, fingerprint, parse_candidate


def test_backoff_doubles_to_its_maximum_and_starts_anew_after_something_good() -> None:
    backoff = Backoff(0.5, 15, draw=lambda: 0.0)
    assert [backoff.next_delay() for _ in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]
    backoff.reset_if_good(GOOD_AFTER - 0.1)
    assert backoff.next_delay() == 15
    backoff.reset_if_good(GOOD_AFTER)
    assert backoff.next_delay() == 0.5


def test_backoff_spreads_tries_a_little() -> None:
    assert Backoff(1, 15, draw=lambda: 0.99).next_delay() == pytest.approx(0.8, abs=0.01)


async def test_inbox_gives_what_came_before_its_end_then_raises() -> None:
    inbox = Inbox(max_bytes=10)
    waiting = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    assert inbox.put(b"one")
    assert await waiting == b"one"
    assert inbox.put(b"two")
    assert not inbox.put(b"much too long")
    inbox.end("over")
    assert not inbox.put(b"late")
    assert await inbox.take() == b"two"
    assert inbox.waiting_bytes == 0
    for _ in range(2):
        with pytest.raises(ConnectionClosed, match="over"):
            await inbox.take()


async def test_inbox_wakes_all_who_wait_at_its_end() -> None:
    inbox = Inbox()
    waiting = [asyncio.create_task(inbox.take()) for _ in range(3)]
    await asyncio.sleep(0)
    inbox.put(b"one")
    inbox.end("over", discard=False)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ConnectionClosed", "ConnectionClosed", "bytes"]


def test_starts_of_one_replica() -> None:
    assert is_other_start("a:1", "a:2")
    assert not is_other_start("a:1", "a:1")
    assert not is_other_start("a:1", "b:1")
    assert not is_other_start("", "a:1")
    assert not is_other_start("x", "y")


def test_an_instance_that_is_listed_twice_is_where_it_was_seen_last() -> None:
    old, new = RemotePeer("old", "b:1"), RemotePeer("new", "b:1")
    assert choose_peer_ids([new, old], known_ids=["old"], linked_ids={"b:1": "old"}) == {"b:1": new}
    assert choose_peer_ids([new, old], known_ids=["old", "new"], linked_ids={"b:1": "new"}) == {"b:1": new}
    assert choose_peer_ids([old, new], known_ids=[], linked_ids={}) == {"b:1": new}
    assert list(choose_peer_ids([RemotePeer("x"), RemotePeer("y")], known_ids=[], linked_ids={})) == [
        "peer:x",
        "peer:y",
    ]


def test_only_one_sha_256_fingerprint_is_believed() -> None:
    line = "a=fingerprint:sha-256 " + ":".join(["0a"] * 32)
    assert fingerprint(f"v=0\r\n{line}\r\na=fingerprint:sha-512 AB\r\n") == bytes([10] * 32)
    assert fingerprint(f"{line}\n{line.upper().replace('A=FINGERPRINT:SHA', 'a=fingerprint:sha')}\n") == bytes(
        [10] * 32
    )
    for text in ("", line.replace("0a", "0b") + "\u2028" + line, "a=fingerprint:sha-256 0A"):
        with pytest.raises(BadDescription):
            fingerprint(text)


@pytest.mark.parametrize("prefix", ["", "candidate:", "a=candidate:"])
def test_candidates_are_read_with_any_prefix(prefix: str) -> None:
    text = prefix + "1 1 UDP 2122317823 192.168.1.5 61034 typ host generation 0 ufrag abcd"
    candidate = parse_candidate({"candidate": text, "sdpMid": "0", "sdpMLineIndex": None})
    assert candidate is not None
    assert (candidate.ip, candidate.port, candidate.type, candidate.sdpMid) == ("192.168.1.5", 61034, "host", "0")


def test_an_empty_candidate_says_that_no_more_come() -> None:
    assert parse_candidate(None) is None
    assert parse_candidate({"candidate": ""}) is None


@pytest.mark.parametrize(
    "data", [5, [], {}, {"candidate": 7}, {"candidate": "candidate:1 1"}, {"candidate": "x" * 2000}]
)
def test_candidates_that_cannot_be_read_are_refused(data: object) -> None:
    with pytest.raises(BadDescription):
        parse_candidate(data)
