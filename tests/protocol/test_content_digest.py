"""Digests of content: independent of order and of how a state is kept, and changed by any single change."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p_replication.protocol.content_digest import (
    BUCKETS,
    HASH_SIZE,
    BucketRows,
    BucketSums,
    bucket_of,
    differing_buckets,
    key_hash,
    row_hash,
)
from p2p_replication.protocol.row_state import RowState
from tests.protocol.strategies import quick, states

keys = st.text(max_size=6) | st.binary(max_size=6)
contents = st.dictionaries(keys, states(), max_size=12)


def sums(rows: Any) -> bytes:
    digest = BucketSums()
    for key, state in rows:
        digest.add(key, state)
    return digest.packed()


def kept_otherwise(state: RowState) -> RowState:
    """The same state, its fields in another order and every clock given by itself."""
    fields = dict(reversed(state.fields().items()))
    clocks = {name: clock for name, (clock, _) in fields.items()}
    return RowState(state.inserted, state.deleted, 99, {name: value for name, (_, value) in fields.items()}, clocks)


@quick
@given(contents, st.randoms())
def test_the_order_of_rows_and_the_form_of_their_states_mean_nothing(content, r):
    rows = list(content.items())
    shuffled = [(key, kept_otherwise(state)) for key, state in rows]
    r.shuffle(shuffled)
    assert sums(rows) == sums(shuffled)
    assert len(sums(rows)) == BUCKETS * HASH_SIZE


def changed(state: RowState, what: int) -> RowState:
    """Return a state that differs in one thing."""
    fields = dict(state.fields())
    inserted, deleted = state.inserted, state.deleted
    if what == 0 or not fields:
        inserted += 1
    elif what == 1:
        deleted += 1
    else:
        name = sorted(fields)[0]
        clock, value = fields[name]
        if what == 2:
            fields[name] = (clock + 1, value)
        elif what == 3:
            fields[name] = (clock, "another" if value != "another" else "one")
        elif what == 4:
            del fields[name]
        else:
            fields[name + "x"] = fields.pop(name)
    return RowState.of(inserted, deleted, fields)


@quick
@given(contents.filter(bool), st.integers(0, 5), st.randoms())
def test_any_single_change_is_seen_in_the_bucket_of_its_row(content, what, r):
    key = r.choice(sorted(content, key=repr))
    after = {**content, key: changed(content[key], what)}
    assert differing_buckets(sums(content.items()), sums(after.items())) == [bucket_of(key_hash(key))]
    del after[key]
    assert differing_buckets(sums(content.items()), sums(after.items())) == [bucket_of(key_hash(key))]


@quick
@given(states(), keys, keys)
def test_rows_that_swap_their_keys_are_seen(state, one, other):
    different = RowState(state.inserted + 1, state.deleted, state.clock, state.values, state.field_clocks)
    swapped = sums([(one, different), (other, state)])
    assert (sums([(one, state), (other, different)]) == swapped) == (one == other)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (0.0, -0.0, True),
        (float("nan"), -float("nan"), True),
        (0.0, 0, False),
        (1, True, False),
        (1.0, 1, False),
        ("1", b"1", False),
        ("", None, False),
    ],
)
def test_values_are_told_apart_as_the_join_does(one, other, equal):
    hashes = [row_hash("k", RowState(1, values={"f": value}, clock=1)) for value in (one, other)]
    assert (hashes[0] == hashes[1]) is equal


def test_what_is_hashed_is_what_the_protocol_says():
    """Other implementations compute the same from docs/protocol.md, with a msgpack library of their own."""
    key = bytes.fromhex("a26b31")
    fields = bytes.fromhex("9293a57374617273ce000200000393a57469746c65ce00010000a178")
    row = bytes.fromhex("94") + key + bytes.fromhex("ce00010000ff") + fields
    state = RowState(65536, -1, 65536, {"title": "x", "stars": 3}, {"stars": 131072})
    assert key_hash("k1") == hashlib.blake2b(key, digest_size=16).digest()
    assert row_hash("k1", state) == hashlib.blake2b(row, digest_size=16).digest()
    assert bucket_of(bytes.fromhex("00000401") + bytes(12)) == 1


def test_chosen_rows_come_in_the_order_of_their_hashes_and_stop_at_the_limit():
    names = [f"key {i}" for i in range(400)]
    buckets = range(0, BUCKETS, 2)
    wanted = sorted((key_hash(name), name) for name in names if bucket_of(key_hash(name)) in buckets)
    for limit, cut in ((10**6, False), (2_000, True)):
        random.Random(limit).shuffle(names)
        chosen = BucketRows(buckets, limit)
        for name in names:
            chosen.add(name, RowState(1))
        found, hashes, was_cut = chosen.rows()
        assert found == [name for _, name in wanted][: len(found)]
        assert hashes == b"".join(row_hash(name, RowState(1)) for name in found)
        assert was_cut is cut
        assert len(found) == len(wanted) if not cut else 10 < len(found) < len(wanted)


def test_memory_for_chosen_rows_is_bounded():
    chosen = BucketRows(range(BUCKETS), 10_000)
    for i in range(20_000):
        chosen.add(f"key {i}", RowState(1))
    assert len(chosen._rows) < 1_000
