"""``LocalPool``, as a project's tests use it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.utils import load_backend
from django.utils.connection import ConnectionDoesNotExist

from p2p_replication import local_writes
from p2p_replication.exceptions import ConfigurationError, ModifierFailed
from p2p_replication.signals import rows_replicated
from p2p_replication.testing import LocalPool
from tests.databases import PostgreSQLDatabase
from tests.testapp import modifiers
from tests.testapp.models import Book, Note, Reader, Sample, Shelf

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["sqlite", "mixed"])
def third(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a third replica; in a mixed pool it is a PostgreSQL database that the project has."""
    if request.param == "sqlite":
        yield "c"
        return
    new_postgresql: Callable[[], PostgreSQLDatabase] = request.getfixturevalue("new_postgresql")
    options = connections.configure_settings({"default": new_postgresql().settings()})["default"]
    connections["pg"] = load_backend(options["ENGINE"]).DatabaseWrapper(options, "pg")
    yield "pg"
    connections["pg"].close()
    del connections["pg"]


def is_known(alias: str) -> bool:
    try:
        return bool(connections[alias])
    except ConnectionDoesNotExist:
        return False


def titles(alias: str) -> set[str]:
    return set(Note.objects.using(alias).values_list("title", flat=True))


def test_rows_cross_in_all_directions(third: str) -> None:
    with LocalPool("a", "b", third, models=[Note]) as pool:
        for alias in pool.aliases:
            Note.objects.using(alias).create(title=f"from {alias}")
        pool.sync()
        pool.assert_converged()
        assert titles("b") == {f"from {alias}" for alias in pool.aliases}
        note = Note.objects.using("a").get(title="from a")
        Note.objects.using("a").filter(pk=note.pk).update(stars=5)
        Note.objects.using(third).filter(pk=note.pk).update(body="text")
        Note.objects.using("b").filter(title="from b").delete()
        pool.sync()
        pool.assert_converged()
        note.refresh_from_db(using="b")
        assert (note.stars, note.body) == (5, "text")
        assert titles("a") == {"from a", f"from {third}"}
        assert pool.errors == []
    assert not is_known("a")


def test_what_breaks_off_goes_on() -> None:
    with LocalPool("a", "b", models=[Note]) as pool:
        Note.objects.using("a").bulk_create([Note(title=f"{i}") for i in range(1_200)])
        while not (before := Note.objects.using("b").count()):
            pool.sync(rounds=1)
        assert before < 1_200
        pool.restart("b")
        Note.objects.using("b").create(title="meanwhile")
        assert Note.objects.using("b").count() == before + 1
        pool.sync()
        pool.assert_converged()
        assert Note.objects.using("a").count() == 1_201


def test_a_filter_is_kept_and_can_be_changed() -> None:
    with LocalPool("a", "b", models=[Note], where={"stars__gte": 3}) as pool:
        for stars in (1, 3, 5):
            Note.objects.using("a").create(title=f"{stars} stars", stars=stars)
        pool.sync()
        pool.assert_converged()
        assert titles("b") == {"3 stars", "5 stars"}
        Note.objects.using("a").filter(stars=5).update(stars=0)
        pool.sync()
        pool.assert_converged()
        assert titles("b") == {"3 stars"}
        Note.objects.using("b").filter(stars=3).update(body="text")
        with pytest.raises(AssertionError, match="b has changes that were not sent yet"):
            pool.assert_converged()
        for alias in pool.aliases:
            pool.declare(alias, Note, where={"stars__gte": 1})
        pool.sync()
        pool.assert_converged()
        assert titles("b") == {"1 stars", "3 stars"}


def test_the_clock_says_which_edit_is_the_later(third: str) -> None:
    with LocalPool("a", third, models=[Note]) as pool:
        note = Note.objects.using("a").create(title="x")
        pool.sync()
        for first, second in (("a", third), (third, "a")):
            Note.objects.using(first).filter(pk=note.pk).update(title="zzz, the greater value")
            pool.clock.advance(datetime.timedelta(minutes=1))
            Note.objects.using(second).filter(pk=note.pk).update(title=f"later, on {second}")
            pool.sync()
            pool.assert_converged()
            assert titles("a") == {f"later, on {second}"}
        assert pool.clock.now == datetime.datetime(2026, 1, 1, 0, 2, 3, tzinfo=datetime.UTC)


def test_of_edits_at_one_moment_those_of_the_replica_named_later_win() -> None:
    with LocalPool("a", "b", models=[Note]) as pool:
        note = Note.objects.using("a").create(title="x")
        pool.sync()
        Note.objects.using("a").filter(pk=note.pk).update(title="b")
        Note.objects.using("b").filter(pk=note.pk).update(title="a")
        pool.sync()
        pool.assert_converged()
        assert titles("a") == {"a"}


def test_a_clock_that_is_ahead_parks_its_rows_until_the_time_has_come() -> None:
    with LocalPool("a", "b", models=[Note]) as pool:
        pool.clock.skew("a", 3600)
        Note.objects.using("a").create(title="from the future")
        pool.sync()
        assert titles("b") == set()
        (parked,) = pool.parked("b")
        assert (parked.model, parked.reason) == ("testapp.Note", "clock ahead")
        with pytest.raises(AssertionError, match=r"parked on b: testapp.Note .*: clock ahead"):
            pool.assert_converged()
        pool.clock.advance(3600)
        pool.sync()
        pool.assert_converged()
        assert pool.parked("b") == []


def test_partition_and_heal(third: str) -> None:
    with LocalPool("a", "b", third, models=[Note]) as pool:
        pool.sync()
        pool.partition(["a"], ["b", third])
        Note.objects.using("a").create(title="a alone")
        Note.objects.using("b").create(title="b and the third")
        pool.sync()
        assert titles("a") == {"a alone"}
        assert titles("b") == titles(third) == {"b and the third"}
        pool.heal()
        pool.sync()
        pool.assert_converged()
        assert len(titles("a")) == 2


def test_differences_are_named_by_row_and_field() -> None:
    with LocalPool("a", "b", models=[Note, Sample]) as pool:
        note = Note.objects.using("a").create(title="x", stars=1)
        day = Sample.objects.using("a").create(day=datetime.date(2026, 1, 2), data={"a": 1})
        pool.sync()
        pool.partition(["a"], ["b"])
        Note.objects.using("a").filter(pk=note.pk).update(title="y")
        Sample.objects.using("b").filter(pk=day.pk).update(data=[1], day=None)
        only = Note.objects.using("b").create(title="only here")
        pool.sync()
        with pytest.raises(AssertionError) as error:
            pool.assert_converged()
        lines = [line.strip() for line in str(error.value).splitlines()]
        assert lines == [
            "The replicas differ:",
            f"testapp.Note {note.pk.hex}: title is 'y' on a, 'x' on b",
            f"testapp.Note {only.pk.hex}: on b, but not on a",
            f"testapp.Sample {day.pk.hex}: day is datetime.date(2026, 1, 2) on a, None on b",
            f"testapp.Sample {day.pk.hex}: data is {{'a': 1}} on a, [1] on b",
        ]
        pool.heal()
        Note.objects.using("a").create(title="not sent")
        with pytest.raises(AssertionError, match="a has changes that were not sent yet: call sync"):
            pool.assert_converged()


def test_children_wait_for_their_parents_and_are_listed() -> None:
    with LocalPool("a", "b", models=[Book]) as pool:
        shelf = Shelf.objects.using("a").create(name="s")
        Book.objects.using("a").create(title="t", shelf=shelf)
        pool.sync()
        assert [row.reason for row in pool.parked("b")] == ["missing parent"]
        for alias in pool.aliases:
            pool.declare(alias, Shelf)
        pool.sync()
        pool.assert_converged()
        assert Book.objects.using("b").get().shelf_id == shelf.pk


def test_directions_modifiers_and_what_sessions_say() -> None:
    with LocalPool("a", "b", models=[Note], push=None) as pool:
        pool.declare("a", Note, pull=None, push={"modifier": modifiers.no_secrets})
        Note.objects.using("a").create(title="secret plan")
        Note.objects.using("a").create(title="public")
        Note.objects.using("b").create(title="from b")
        pool.sync()
        assert titles("b") == {"public", "from b"}
        assert titles("a") == {"secret plan", "public"}
        pool.declare("a", Note, push={"modifier": modifiers.broken})
        Note.objects.using("a").create(title="new")
        with pytest.raises(ModifierFailed, match=r"push.modifier failed .* LookupError: no rules today"):
            pool.sync()


def test_receivers_are_told() -> None:
    heard: list[Any] = []

    def receive(**told: Any) -> None:
        heard.append((told["using"], told["inserted"]))

    rows_replicated.connect(receive, sender=Note)
    try:
        with LocalPool("a", "b", models=[Note]) as pool:
            note = Note.objects.using("a").create(title="x")
            pool.sync()
    finally:
        rows_replicated.disconnect(receive, sender=Note)
    assert heard == [("b", [note.pk])]


def test_local_writes_stay_local() -> None:
    with LocalPool("a", "b", models=[Note]) as pool:
        Note.objects.using("a").create(title="x")
        pool.sync()
        with local_writes("a"):
            Note.objects.using("a").update(title="y")
        pool.sync()
        assert titles("b") == {"x"}


def test_pools_after_one_another_know_nothing_of_each_other() -> None:
    for _ in range(2):
        with LocalPool("a", "b", models=[Note]) as pool:
            assert Note.objects.using("a").count() == 0
            Note.objects.using("a").create(title="x")
            pool.sync()
            pool.assert_converged()


def test_a_pool_of_all_models_in_the_project() -> None:
    with LocalPool("a", "b") as pool:
        Sample.objects.using("a").create(text="x")
        pool.sync()
        pool.assert_converged()
        assert Sample.objects.using("b").count() == 1


def test_what_can_not_work_is_said() -> None:
    with pytest.raises(ConfigurationError, match="two or more different names"):
        LocalPool("a", models=[Note])
    text = "LocalPool('default'): this database is inside of a transaction, as in django.test.TestCase"
    with pytest.raises(ConfigurationError, match=re.escape(text)), LocalPool("a", "default", models=[Note]):
        pass
    assert not is_known("a")
    with LocalPool("a", "b", models=[Note]) as pool:
        with pytest.raises(ConfigurationError, match="'x' is no replica of the pool, which has: a, b"):
            pool.partition(["a"], ["x"])
        with pytest.raises(ConfigurationError, match="nothing would replicate"):
            pool.declare("a", Note, pull=None, push=None)


@pytest.mark.django_db(transaction=True)
def test_the_projects_own_database_can_be_one_of_them() -> None:
    with LocalPool("default", "b", models=[Note]) as pool:
        with transaction.atomic():
            Note.objects.create(title="in the project's own")
        pool.sync()
        pool.assert_converged()
        assert titles("b") == {"in the project's own"}
    Note.objects.create(title="afterwards")


def test_relations_clashes_and_conflicts_come_out_as_in_production() -> None:
    with LocalPool("a", "b", models=[Shelf, Book, Reader]) as pool:
        shelf = Shelf.objects.using("a").create(name="shelf")
        reader = Reader.objects.using("a").create()
        reader.shelves.add(shelf)
        pool.sync()
        pool.assert_converged()
        assert Reader.objects.using("b").get().shelves.get() == shelf
        pool.partition(["a"], ["b"])
        # One deletes the shelf while the other puts a book onto it; both make a shelf of one name; both edit a name.
        Shelf.objects.using("a").all().delete()
        Book.objects.using("b").create(title="book", shelf=shelf)
        older = Shelf.objects.using("a").create(name="same")
        pool.clock.advance(1)
        younger = Shelf.objects.using("b").create(name="same")
        pool.heal()
        pool.sync()
        pool.assert_converged()
        for alias in "ab":
            assert Shelf.objects.using(alias).get() == older
            assert not Book.objects.using(alias).exists()
            assert not Reader.objects.using(alias).get().shelves.exists()
            assert [row.reason for row in pool.parked(alias)] == ["unique value taken"]
        Shelf.objects.using("a").filter(pk=older.pk).update(name="other")
        pool.sync()
        assert pool.parked("b") == []
        assert set(Shelf.objects.using("b").all()) == {older, younger}
        pool.assert_converged()
