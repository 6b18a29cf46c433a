"""Links that the application has its hands on while a peer deletes their end (PostgreSQL)."""

from __future__ import annotations

import pytest

from p2p_replication.storage.parking import BUSY, MISSING_PARENT
from tests.storage.conftest import meet
from tests.storage.test_links import LABELS, assert_equal, bury, names, person, tags
from tests.storage.test_postgresql_locks import reasons, transaction
from tests.testapp.models import Person

pytestmark = pytest.mark.on("postgresql")


@pytest.mark.parametrize("others", [0, 5])
def test_a_link_that_the_application_is_deleting(replica, others):
    a, b = replica("a"), replica("b")
    one, (x, *more) = person("a"), tags("a", "x", *(f"t{i}" for i in range(others)))
    meet(a, b, labels=LABELS)
    Person.objects.using("b").get(pk=one.pk).tags.add(x.pk)
    key = x.pk
    for tag in (x, *more):
        tag.delete(using="a")
    with transaction(b, ("DELETE FROM testapp_person_tags WHERE tag_id = %s", key)):
        b.pull(a, LABELS)
        assert reasons(b) == [BUSY]
        assert b.sql("SELECT COUNT(*) FROM testapp_tag") == [(1,)]
    b.retry_parked()
    assert b.parked() == 0
    meet(a, b, labels=LABELS)
    assert names("b", one) == set()
    assert_equal(a, b)


def test_a_link_that_the_application_adds_meanwhile(replica):
    a, b = replica("a"), replica("b")
    one, (x,) = person("a"), tags("a", "x")
    meet(a, b, labels=LABELS)
    key = x.pk
    x.delete(using="a")
    insert = ("INSERT INTO testapp_person_tags (person_id, tag_id) VALUES (%s, %s)", one.pk, key)
    with transaction(b, ("SET CONSTRAINTS ALL IMMEDIATE",), insert):
        b.pull(a, LABELS)
        assert reasons(b) == [BUSY]
    b.retry_parked()
    assert reasons(b) == [MISSING_PARENT]
    meet(a, b, labels=LABELS)
    assert bury(a, b) == 2
    meet(a, b, labels=LABELS)
    assert_equal(a, b)


def test_a_link_that_both_add_at_once(replica):
    a, b = replica("a"), replica("b")
    one, (x,) = person("a"), tags("a", "x")
    meet(a, b, labels=LABELS)
    one.tags.add(x)
    insert = ("INSERT INTO testapp_person_tags (person_id, tag_id) VALUES (%s, %s)", one.pk, x.pk)
    with transaction(b, insert):
        b.pull(a, LABELS)
        assert reasons(b) == [BUSY]
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"x"}
    assert_equal(a, b)
