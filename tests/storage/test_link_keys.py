"""A link's key: one text for its two ends, made alike by SQL and by Python, and one value on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p_replication.models import ChangeLogEntry
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.storage.link_keys import end_texts, joined, link_codec, link_text, split
from tests.storage.batches import batch_of, edited
from tests.storage.conftest import StorageReplica
from tests.testapp.models import Language, Person, Tag

LINKS = "testapp.Person_tags"
#: No database takes half a surrogate pair, PostgreSQL no NUL.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(
    ["/", "~", "~0", "~1", "~1/", "a/b", "%", "'"]
)


@given(TEXTS, TEXTS)
def test_what_is_joined_comes_apart_again(first: str, second: str) -> None:
    assert split(joined(first, second)) == (first, second)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_other_ends_make_another_key(a: str, b: str, c: str, d: str) -> None:
    one, other = (a, b), (c, d)
    assert (joined(*one) == joined(*other)) == (one == other)


@pytest.mark.on("sqlite", "postgresql")
def test_sql_makes_and_takes_apart_the_same_text(replica) -> None:
    a = replica("a")
    cast = "CAST(%s AS TEXT)"

    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(TEXTS, TEXTS)
    def same(first: str, second: str) -> None:
        position = a.database.vendor.position
        with connections["a"].cursor() as cursor:
            cursor.execute(f"SELECT {link_text(cast, cast)}", [first, second])
            ((key,),) = cursor.fetchall()
            assert key == joined(first, second)
            cursor.execute(f"SELECT {', '.join(end_texts('k.t', position))} FROM (SELECT {cast} AS t) k", [key])
            assert cursor.fetchall() == [(first, second)]

    same()


@pytest.mark.on("sqlite", "postgresql")
def test_a_key_travels_as_what_its_ends_do(replica) -> None:
    a = replica("a")
    one, tag = Person.objects.using("a").create(), Tag.objects.using("a").create()
    one.tags.add(tag)
    (entry,) = ChangeLogEntry.objects.using("a").filter(stream=a.stream(LINKS).id)
    assert entry.key == f"{a.site.key(one.pk)}/{a.site.key(tag.pk)}"
    table = a.stream(LINKS).table
    wire = table.key_to_wire(entry.key)
    assert msgspec.msgpack.decode(wire) == [one.pk.bytes, tag.pk.bytes]
    assert table.key_from_wire(wire) == entry.key


BAD = [
    b"", b"x", b"\xc1", 5, "text", "a/b", None, b"\x91" * 100_000,
    msgspec.msgpack.encode([]), msgspec.msgpack.encode([b"1" * 16]), msgspec.msgpack.encode([b"1" * 16] * 3),
    msgspec.msgpack.encode([b"1" * 16, b"2" * 15]), msgspec.msgpack.encode([b"1" * 16, 5]),
    msgspec.msgpack.encode([b"1" * 16, None]), msgspec.msgpack.encode({"a": b"1" * 16}),
    # The same two ends, written at greater length.
    b"\xdc\x00\x02" + msgspec.msgpack.encode(b"1" * 16) + msgspec.msgpack.encode(b"2" * 16),
    msgspec.msgpack.encode([b"1" * 16, b"2" * 16]) + b"\x00",
]  # fmt: skip


@pytest.mark.on("sqlite", "postgresql")
def test_what_is_no_key_is_refused_and_loses_nothing(replica: Any) -> None:
    a, b = replica("a"), replica("b")
    one, tag = Person.objects.using("a").create(), Tag.objects.using("a").create()
    one.tags.add(tag)
    for label in ("testapp.Person", "testapp.Tag"):
        b.pull(a, (label,))
    batch = batch_of(a, LINKS)
    table = b.stream(LINKS).table
    for key in BAD:
        with pytest.raises(ValueError):
            table.key_from_wire(key)
        if isinstance(key, bytes):
            with pytest.raises(RemoteProtocolError):
                StorageReplica.apply(b, a, edited(batch, lambda row, key=key: row._replace(key=key)))
    assert b.vector(LINKS) == {} and b.parked() == 0
    b.apply(a, batch)
    assert b.keys(LINKS) == {f"{b.site.key(one.pk)}/{b.site.key(tag.pk)}"}


@given(st.binary(max_size=60))
def test_any_bytes_are_a_key_or_an_error(value: bytes) -> None:
    from p2p_replication.storage.codecs_sqlite import codec_for

    ends = [codec_for(Person._meta.get_field("id")), codec_for(Language._meta.get_field("code"))]  # type: ignore[arg-type]
    codec = link_codec(ends)
    assert codec.from_wire is not None and codec.to_wire is not None
    try:
        text = codec.from_wire(value)
    except ValueError:
        return
    assert codec.to_wire(text) == value


@pytest.mark.on("sqlite", "postgresql")
def test_links_are_found_by_an_index(replica: Any) -> None:
    """The table of links may be the largest of all."""
    a = replica("a")
    table = a.stream(LINKS).table
    keys = [joined(a.site.key(Person().pk), a.site.key(Tag().pk)) for _ in range(2)]
    condition, params = table.has_keys("t", keys)
    queries = [
        (f"SELECT t.person_id FROM {table.name} t WHERE {condition}", params),
        (
            f"SELECT t.person_id FROM p2p_replication_ledgerentry l LEFT JOIN {table.name} t "
            f"ON {table.has_key('t', 'l.key')} WHERE l.stream = 1 AND l.seq > 5",
            [],
        ),
    ]
    with connections["a"].cursor() as cursor:
        if a.site.vendor == "postgresql":
            # A table as small as this one is read as a whole, unless that is forbidden.
            cursor.execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")
        for sql, values in queries:
            cursor.execute(f"EXPLAIN {'' if a.site.vendor == 'postgresql' else 'QUERY PLAN'} {sql}", values)
            plan = [str(record[-1]) for record in cursor.fetchall()]
            found = [line for line in plan if "Index Cond" in line or "INDEX" in line]
            assert any("person_id" in line and "tag_id" in line for line in found), plan
            assert not [line for line in plan if "Seq Scan on testapp_person_tags" in line or "SCAN t" in line], plan
