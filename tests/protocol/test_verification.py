"""Comparing content over a session: questions, answers, what they mean, and peers that break the rules."""

from __future__ import annotations

import msgspec
import pytest

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.content_digest import (
    BUCKETS,
    HASH_SIZE,
    MAX_ASKED,
    BucketRows,
    BucketSums,
    bucket_of,
    key_hash,
)
from p2p_replication.protocol.messages import BYTES, Digest, DigestRequest
from p2p_replication.protocol.row_state import RowState
from p2p_replication.protocol.verification import Outcome, compare, differences, refusal
from tests.protocol.raw_peer import OFFER, RawPeer

HUGE = 2**63


def digest(content: dict, buckets=(), **values) -> Digest:
    """Return what a side that holds this content answers."""
    sums, rows = BucketSums(), BucketRows(buckets)
    for key, state in content.items():
        sums.add(key, state)
        rows.add(key, state)
    answer = Digest("m", 1, {"us": 3}, "", "", b"" if buckets else sums.packed(), *rows.rows(), 0)
    return msgspec.structs.replace(answer, **values)


CONTENT = {f"k{i}": RowState(i, clock=i, values={"title": f"t{i}"}) for i in range(1, 40)}
CHANGED = {**CONTENT, "k7": RowState(8, 9)}


# -- what answers mean -------------------------------------------------------------------------------------------------


def test_equal_content_is_equal_even_while_changes_are_under_way():
    ours = digest(CONTENT, unsettled="2 local changes are not posted yet")
    assert compare(ours, digest(CONTENT, vector={"us": 9})).outcome is Outcome.EQUAL


@pytest.mark.parametrize(
    "values", [{"vector": {"us": 2}}, {"vector": {"us": 3, "x": 1}}, {"unsettled": "soon"}], ids=str
)
def test_content_that_differs_says_nothing_while_changes_are_under_way(values):
    for pair in ((digest(CONTENT), digest(CHANGED, **values)), (digest(CHANGED, **values), digest(CONTENT))):
        assert compare(*pair).outcome is Outcome.UNDER_WAY


def test_content_that_differs_after_the_same_changes_is_different():
    found = compare(digest(CONTENT), digest(CHANGED))
    assert (found.outcome, found.buckets) == (Outcome.DIFFERENT, (bucket_of(key_hash("k7")),))


def test_rows_that_no_version_knows_of_are_a_difference():
    for pair in ((digest(CONTENT, untracked=2), digest(CONTENT)), (digest(CONTENT), digest(CONTENT, untracked=2))):
        found = compare(*pair)
        assert found.outcome is Outcome.DIFFERENT
        assert "2 rows" in found.text and "rescan" in found.text


def test_a_refusal_says_why_without_control_characters():
    found = compare(digest(CONTENT), refusal("no\x1b[31m"))
    assert (found.outcome, found.text) == (Outcome.FAILED, "no?[31m")


def test_keys_that_differ_are_named():
    other = {**CHANGED, "new": RowState(5)}
    del other["k9"]
    buckets = sorted({bucket_of(key_hash(key)) for key in ("k7", "k9", "new")})
    found = differences(digest(CONTENT, buckets), digest(other, buckets))
    assert found is not None
    assert (found.only_here, found.only_there, found.different) == (("k9",), ("new",), ("k7",))
    assert found.complete


def test_what_had_no_room_is_not_taken_for_missing():
    everything = range(BUCKETS)
    ours, theirs = digest(CONTENT, everything), digest(CONTENT, everything)
    part = msgspec.structs.replace(theirs, keys=theirs.keys[:5], hashes=theirs.hashes[: 5 * HASH_SIZE], cut=True)
    for pair in ((ours, part), (part, ours)):
        found = differences(*pair)
        assert found is not None
        assert (found.only_here, found.only_there, found.different, found.complete) == ((), (), (), False)


# -- the session -------------------------------------------------------------------------------------------------------


def test_a_question_of_the_peer_is_read_and_answered():
    peer = RawPeer().open()
    peer.say(DigestRequest("m", 5))
    (effect,) = peer.wanted(fx.ReadDigest)
    assert effect.request == DigestRequest("m", 5)
    peer.session.digest_read(digest(CONTENT, number=0))
    peer.look()
    (answer,) = peer.heard(Digest)
    assert (answer.number, answer.sums) == (5, digest(CONTENT).sums)
    peer.say(DigestRequest("m", 6))
    assert peer.is_open


def test_a_question_before_the_decision_waits_for_it():
    peer = RawPeer().introduce()
    peer.say(DigestRequest("m", 1))
    assert not peer.wanted(fx.ReadDigest)
    peer.accept()
    assert peer.wanted(fx.ReadDigest)


@pytest.mark.parametrize("model", ["unknown", "m2"])
def test_a_question_about_a_model_without_a_part_is_refused_with_the_reason(model):
    offer = msgspec.structs.replace(OFFER, label="m2", fields={"": "text", "title": "integer"})
    theirs = msgspec.structs.replace(offer, fields={"": "text", "title": "text"})
    peer = RawPeer(models=(OFFER, offer))
    peer.hello = msgspec.structs.replace(peer.hello, models=[OFFER, theirs])
    peer.open()
    peer.say(DigestRequest(model, 1))
    (answer,) = peer.heard(Digest)
    assert answer.refused
    assert ("two types" in answer.refused) == (model == "m2")
    assert peer.is_open and not peer.wanted(fx.ReadDigest)
    assert peer.session.why_no_digest("m2").startswith("m2.title has two types")


def test_our_question_gets_its_answer():
    peer = RawPeer().open()
    assert peer.session.why_no_digest("m") == ""
    assert peer.session.ask_digest("m")
    assert not peer.session.ask_digest("m"), "one at a time"
    assert peer.session.why_no_digest("m") == ""
    peer.look()
    (asked,) = peer.heard(DigestRequest)
    peer.say(digest(CONTENT, number=asked.number))
    (arrived,) = peer.wanted(fx.DigestArrived)
    assert arrived.digest.sums == digest(CONTENT).sums
    assert peer.session.ask_digest("m", [4])


def test_a_peer_that_does_not_know_digests_is_not_asked():
    peer = RawPeer()
    peer.hello = msgspec.structs.replace(peer.hello, features=[])
    peer.open()
    assert not peer.session.ask_digest("m")
    assert "older version" in peer.session.why_no_digest("m")
    peer.look()
    assert not peer.heard(DigestRequest)


# -- peers that break the rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        DigestRequest("m" * 201, 1),
        DigestRequest("m", 0),
        DigestRequest("m", HUGE),
        DigestRequest("m", 1, [BUCKETS]),
        DigestRequest("m", 1, [-1]),
        DigestRequest("m", 1, [3, 3]),
        DigestRequest("m", 1, list(range(MAX_ASKED + 1))),
    ],
    ids=lambda request: repr(request)[:60],
)
def test_a_question_out_of_range_is_refused(request_):
    peer = RawPeer().open()
    peer.say(request_)
    assert peer.was_refused
    assert not peer.wanted(fx.ReadDigest)


def test_questions_that_do_not_wait_for_their_answers_are_refused():
    """Each costs a walk through the table."""
    peer = RawPeer().open()
    peer.say(DigestRequest("m", 1), DigestRequest("m", 2))
    assert peer.was_refused


def test_an_answer_that_nobody_asked_for_is_refused():
    peer = RawPeer().open()
    peer.say(digest(CONTENT))
    assert peer.was_refused


BUCKET = bucket_of(key_hash("k7"))
OTHER = next(key for key in CONTENT if bucket_of(key_hash(key)) != BUCKET)


@pytest.mark.parametrize(
    "values",
    [
        {"number": 2},
        {"model": "n"},
        {"vector": {"": 1}},
        {"vector": {"x": HUGE}},
        {"sums": b""},
        {"sums": bytes(BUCKETS * HASH_SIZE + 1)},
        {"unsettled": "x" * 501},
        {"refused": "x" * 501},
        {"untracked": -1},
        {"untracked": HUGE},
        {"keys": ["k7"], "hashes": bytes(HASH_SIZE)},
    ],
)
def test_sums_that_no_correct_peer_sends_are_refused(values):
    peer = RawPeer().open()
    peer.session.ask_digest("m")
    peer.say(digest(CONTENT, **values))
    assert peer.was_refused
    assert not peer.wanted(fx.DigestArrived)


@pytest.mark.parametrize(
    "values",
    [
        {"sums": bytes(BUCKETS * HASH_SIZE)},
        {"hashes": b""},
        {"keys": ["k7", "k7"], "hashes": bytes(2 * HASH_SIZE)},
        {"keys": [OTHER], "hashes": bytes(HASH_SIZE)},
        {"keys": [msgspec.msgpack.Ext(BYTES + 1, b"k7")], "hashes": bytes(HASH_SIZE)},
    ],
)
def test_rows_that_no_correct_peer_sends_are_refused(values):
    peer = RawPeer().open()
    peer.session.ask_digest("m", [BUCKET])
    peer.say(digest(CONTENT, [BUCKET], **values))
    assert peer.was_refused
    assert not peer.wanted(fx.DigestArrived)


def test_rows_in_another_order_are_refused():
    peer = RawPeer().open()
    buckets = [BUCKET, bucket_of(key_hash(OTHER))]
    right = digest(CONTENT, buckets)
    assert len(right.keys) > 1
    peer.session.ask_digest("m", buckets)
    peer.say(msgspec.structs.replace(right, keys=right.keys[::-1]))
    assert peer.was_refused


def test_a_hello_with_features_without_end_is_refused():
    peer = RawPeer()
    peer.hello = msgspec.structs.replace(peer.hello, features=["f"] * 101)
    peer.say(peer.hello)
    assert peer.was_refused
