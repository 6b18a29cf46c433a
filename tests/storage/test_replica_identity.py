"""The ids of starts, which are origins of counters as well; and a database that is another one all at once."""

from __future__ import annotations

import datetime

import pytest

from p2p_replication.exceptions import StaleReplica
from p2p_replication.models import Stream
from p2p_replication.storage.replica_identity import new_start
from p2p_replication.storage.stored_vectors import own_vector

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()


def test_a_start_is_greater_than_that_of_an_earlier_minute():
    times = [NOW, NOW + 61, NOW + 86_400, datetime.datetime(2050, 12, 1, tzinfo=datetime.UTC).timestamp()]
    starts = [new_start(lambda time=time: time) for time in times]
    assert starts == sorted(starts)
    assert {len(start) for start in starts} == {16}


def test_starts_of_one_moment_differ_whatever_the_clock_says():
    for time in (NOW, 0.0, -1e9, 1e11):
        starts = {new_start(lambda time=time: time) for _ in range(1000)}
        assert len(starts) == 1000
        assert {len(start) for start in starts} == {16}


def test_a_stream_that_a_flush_has_taken_makes_the_database_another_one(replica):
    """Whoever reads it in that moment must not fail as if it were a fault."""
    a = replica("a")
    assert own_vector(a.database, a.stream("testapp.Note")) == {}
    Stream.objects.using("a").filter(label="testapp.Note").delete()
    with pytest.raises(StaleReplica, match=r"testapp\.Note any more \(a flush\?\)"):
        own_vector(a.database, a.stream("testapp.Note"))
