"""Foreign keys to models that do not replicate: they travel by natural key, and wait for what is not there yet."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import connections

from p2p_replication.models import Parking
from p2p_replication.protocol.changes import unpack_rows
from p2p_replication.protocol.verification import Outcome, compare
from tests.office.models import Duty, Errand
from tests.seeds import seeded
from tests.storage.batches import batch_of, edited, with_values
from tests.storage.conftest import StorageReplica, meet
from tests.storage.random_work import work
from tests.storage.test_posting import SmallBudget
from tests.testapp.models import Note
from tests.workloads import natural_keys

ERRAND, DUTY = ("office.Errand",), ("office.Duty",)
LABELS = ERRAND + DUTY
ALL = pytest.mark.on("sqlite", "postgresql")


@pytest.fixture
def two(replica: Any) -> tuple[StorageReplica, StorageReplica]:
    """Two replicas, on which nothing of Django's own apps has the same number."""
    a, b = replica("a"), replica("b")
    for i in range(7):
        User.objects.using("b").create(username=f"other{i}")
        Group.objects.using("b").create(name=f"other{i}")
    b.sql("DELETE FROM auth_permission")
    b.sql("UPDATE django_content_type SET id = id + 500")
    return a, b


def user(alias: str, name: str) -> User:
    return User.objects.using(alias).create(username=name)


def owners(alias: str) -> list[tuple[str, str | None]]:
    return list(Errand.objects.using(alias).order_by("title").values_list("title", "owner__username"))


def assert_equal(*replicas: StorageReplica, labels: tuple[str, ...] = LABELS) -> None:
    """All say the same, also of what they can't hold, and have nothing more to say."""
    first = replicas[0]
    for one in replicas:
        assert one.post().entries == 0
        assert one.site.broken_references() == []
        for label in labels:
            assert compare(first.digest(label), one.digest(label)).outcome is Outcome.EQUAL
        one.sent_rows = 0
    meet(*replicas, labels=labels)
    assert [one.sent_rows for one in replicas] == [0] * len(replicas)


@ALL
def test_a_reference_arrives_as_the_row_of_that_name(two):
    a, b = two
    for alias in "ab":
        user(alias, "ana")
        Group.objects.using(alias).create(name="staff")
    Errand.objects.using("a").create(
        title="t",
        owner=User.objects.using("a").get(username="ana"),
        group=Group.objects.using("a").get(name="staff"),
    )
    Duty.objects.using("a").create(title="d", user=User.objects.using("a").get(username="ana"))
    meet(a, b, labels=LABELS)
    there = Errand.objects.using("b").get()
    assert (there.owner.username, there.group.name) == ("ana", "staff")
    assert there.owner_id != Errand.objects.using("a").get().owner_id
    assert Duty.objects.using("b").get().user.username == "ana"
    assert b.parked() == 0
    (row,) = unpack_rows(batch_of(a, "office.Errand").rows)
    assert (row.state.values["owner"], row.state.values["group"]) == ('["ana"]', '["staff"]')
    Errand.objects.using("b").update(owner=None)
    meet(a, b, labels=LABELS)
    assert owners("a") == [("t", None)]
    assert_equal(*two)


@ALL
def test_a_missing_user_that_may_be_null_is_kept_aside_and_set_when_it_appears(two, replica):
    """The rest of the row is there at once; who relays it has the reference, too."""
    a, b = two
    c = replica("c")
    user("c", "ana")
    Errand.objects.using("a").create(title="1", owner=user("a", "ana"))
    Errand.objects.using("a").create(title="2", owner=user("a", "ben"))
    b.pull(a, ERRAND)
    assert b.parked() == 0
    assert owners("b") == [("1", None), ("2", None)]
    c.pull(b, ERRAND)
    assert owners("c") == [("1", "ana"), ("2", None)]
    # Edits of the rest of the row, here and there, leave the reference alone.
    Errand.objects.using("b").filter(title="1").update(title="1b")
    b.post()
    Errand.objects.using("a").filter(title="2").update(title="2a")
    meet(a, b, c, labels=ERRAND)
    assert owners("b") == [("1b", None), ("2a", None)]
    assert owners("a") == [("1b", "ana"), ("2a", "ben")]
    b.retry_parked()
    assert_equal(a, b, c, labels=ERRAND)
    user("b", "ana")
    b.retry_parked()
    assert owners("b") == [("1b", "ana"), ("2a", None)]
    b.start()
    user("b", "ben")
    user("c", "ben")
    for one in (b, c):
        one.retry_parked()
    assert owners("b") == owners("c") == [("1b", "ana"), ("2a", "ben")]
    assert_equal(a, b, c, labels=ERRAND)


@ALL
def test_what_is_kept_aside_gives_way_to_a_reference_that_is_set_here(two):
    a, b = two
    errand = Errand.objects.using("a").create(title="1", owner=user("a", "ana"))
    b.pull(a, ERRAND)
    ben = user("b", "ben")
    Errand.objects.using("b").update(owner=ben)
    b.post()
    user("b", "ana")
    b.retry_parked()
    assert owners("b") == [("1", "ben")]
    meet(a, b, labels=ERRAND)
    assert Errand.objects.using("a").get().owner is None
    user("a", "ben")
    a.retry_parked()
    assert owners("a") == [("1", "ben")]
    assert_equal(a, b, labels=ERRAND)
    # A later edit elsewhere, to nobody, ends the waiting.
    Errand.objects.using("b").update(owner=user("b", "cleo"))
    a.pull(b, ERRAND)
    assert owners("a") == [("1", None)]
    Errand.objects.using("b").update(owner=None)
    a.pull(b, ERRAND)
    user("a", "cleo")
    a.retry_parked()
    assert Errand.objects.using("a").get(pk=errand.pk).owner is None
    assert_equal(a, b, labels=ERRAND)


@ALL
def test_a_row_that_needs_its_user_waits_for_it(two):
    a, b = two
    Duty.objects.using("a").create(title="d", user=user("a", "ana"))
    b.pull(a, DUTY)
    assert not Duty.objects.using("b").exists()
    assert b.retry_parked() == 0
    parking = Parking.objects.using("b").get()
    assert (parking.reason, parking.detail) == ("missing parent", 'auth.User ["ana"]')
    user("b", "ana")
    assert b.retry_parked() == 1
    assert Duty.objects.using("b").get().user.username == "ana"
    assert_equal(a, b, labels=DUTY)


@ALL
def test_a_name_counts_only_as_it_is_written(two, monkeypatch):
    """Else one value would have two forms, and replicas that have exchanged everything would differ."""
    a, b = two
    monkeypatch.setattr(type(User.objects), "get_by_natural_key", lambda self, name: self.get(username__iexact=name))
    user("b", "ana")
    Errand.objects.using("a").create(title="1", owner=user("a", "Ana"))
    b.pull(a, ERRAND)
    b.retry_parked()
    assert owners("b") == [("1", None)]
    User.objects.using("b").filter(username="ana").update(username="Ana")
    b.retry_parked()
    assert owners("b") == [("1", "Ana")]
    assert_equal(a, b, labels=ERRAND)


@ALL
def test_a_user_that_is_deleted_takes_its_references_along_everywhere(two):
    """As its ``on_delete`` says: that is a write like any other."""
    a, b = two
    for alias in "ab":
        user(alias, "ana")
    ana = User.objects.using("a").get(username="ana")
    Errand.objects.using("a").create(title="1", owner=ana)
    Duty.objects.using("a").create(user=ana)
    meet(a, b, labels=LABELS)
    ana.delete()
    meet(a, b, labels=LABELS)
    assert owners("b") == [("1", None)]
    assert not Duty.objects.using("b").exists()
    assert User.objects.using("b").filter(username="ana").exists()
    assert_equal(*two)


@ALL
def test_generic_foreign_keys_carry_the_content_types_name(two):
    a, b = two
    labels = (*ERRAND, "testapp.Note")
    note = Note.objects.using("a").create(title="n")
    Errand.objects.using("a").create(
        title="1",
        content_type=ContentType.objects.using("a").get(app_label="testapp", model="note"),
        object_id=str(note.pk),
    )
    b.pull(a, labels)
    there = Errand.objects.using("b").get()
    assert there.content_type_id > 500
    assert there.target == Note.objects.using("b").get()
    (row,) = unpack_rows(batch_of(b, "office.Errand").rows)
    assert row.state.values["content_type"] == '["testapp", "note"]'
    assert_equal(a, b, labels=labels)
    # New numbers, as after a flush: nothing is remembered of the old ones.
    a.sql("UPDATE office_errand SET content_type_id = NULL")
    meet(a, b, labels=labels)
    b.sql("UPDATE django_content_type SET id = id + 500")
    a.sql("UPDATE office_errand SET content_type_id = (SELECT id FROM django_content_type WHERE model = 'note')")
    b.pull(a, labels)
    assert Errand.objects.using("b").get().target == Note.objects.using("b").get()


@ALL
@pytest.mark.parametrize(
    "value", ["ana", '{"a": 1}', "[]", '["a", "b"]', "[[[", 5, b"\x00", '["\\u0000"]', "[" * 5000, '[{"x": []}]']
)
def test_a_natural_key_that_can_be_none_loses_nothing(two, value):
    a, b = two
    Errand.objects.using("a").create(title="bad", owner=user("a", "ana"))
    Errand.objects.using("a").create(title="good")
    forged = edited(
        batch_of(a, "office.Errand"),
        lambda row: with_values(row, owner=value) if row.state.values["title"] == "bad" else row,
    )
    b.apply(a, forged)
    assert Errand.objects.using("b").filter(title="good").exists()
    assert b.parked() + b.retry_parked() + Errand.objects.using("b").filter(title="bad", owner=None).count() == 1
    # Once it is mended it comes in.
    Errand.objects.using("a").filter(title="bad").update(owner=None)
    b.pull(a, ERRAND)
    b.retry_parked()
    assert owners("b") == [("bad", None), ("good", None)]


@ALL
def test_a_batch_looks_each_name_up_once(two):
    a, b = two
    for alias in "ab":
        user(alias, "ana")
    ana = User.objects.using("a").get(username="ana")
    Errand.objects.using("a").bulk_create(Errand(title=str(i), owner=ana) for i in range(200))
    a.post()
    with Lookups("a") as read, Lookups("b") as written:
        b.pull(a, ERRAND)
    assert Errand.objects.using("b").filter(owner__username="ana").count() == 200
    assert read.count <= 3
    assert written.count <= 10


class Lookups:
    """Counts the queries that ask for users."""

    def __init__(self, alias: str) -> None:
        self.connection = connections[alias]
        self.count = 0

    def __enter__(self) -> Lookups:
        self.wrapper = self.connection.execute_wrapper(self)
        self.wrapper.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.wrapper.__exit__(*error)  # type: ignore[arg-type]

    def __call__(self, execute: Any, sql: str, *rest: Any) -> Any:
        self.count += bool(re.search("FROM .auth_user", sql))
        return execute(sql, *rest)


def step(r: random.Random, replicas: list[StorageReplica]) -> None:
    one, other = r.sample(replicas, 2)
    if r.random() < 0.7:
        natural_keys.write(r, one.alias)
    else:
        work(r, one, other, LABELS)


@pytest.mark.on("sqlite", "postgresql", "mixed")
@seeded(1)
def test_random_histories_with_users_that_come_and_go(replica, seed):
    """Nothing is lost: once all have all users, all have the same rows, and what waits is there."""
    r = random.Random(seed)
    replicas = [replica(name) for name in "abc"]
    for i, one in enumerate(replicas):
        for j in range(i * 3):
            user(one.alias, f"only{j}").delete()
    for _ in range(80):
        step(r, replicas)
    for one in replicas:
        one.database.budget = SmallBudget(1000)
    meet(*replicas, labels=LABELS, rounds=3)
    assert_equal(*replicas)
    for one in replicas:
        natural_keys.settle(one.alias)
        one.retry_parked()
    assert [one.parked() for one in replicas] == [0, 0, 0]
    for label in LABELS:
        assert len({tuple(one.canonical(label)) for one in replicas}) == 1
    assert_equal(*replicas)
