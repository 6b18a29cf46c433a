"""Foreign keys between replicated rows: what waits for what, and comes back."""

from __future__ import annotations

import datetime
import itertools

import pytest

from p2p_replication.models import Parking
from p2p_replication.storage.link_rows import bury_links
from tests.storage.conftest import meet
from tests.testapp.models import Book, Branch, Player, Reader, Ruled, Shelf, Team

SHELVES = ("testapp.Shelf", "testapp.Book")
CYCLE = ("testapp.Team", "testapp.Player")
BRANCH = ("testapp.Branch",)


def broken_references(replica) -> list:
    return replica.site.broken_references()


def test_children_before_parents_wait_and_come_back(replica):
    a, b = replica("a"), replica("b")
    shelves = [Shelf.objects.using("a").create(name=f"s{i}") for i in range(3)]
    Book.objects.using("a").bulk_create(Book(shelf=shelves[i % 3], title=f"t{i}") for i in range(90))
    b.pull(a, ("testapp.Book",))
    assert b.parked() == 90
    assert set(Parking.objects.using("b").values_list("reason", flat=True)) == {"missing parent"}
    b.pull(a, ("testapp.Shelf",))
    assert b.retry_parked() == 90
    assert a.rows() == b.rows()
    assert not broken_references(b)


def test_a_row_that_moves_to_a_missing_parent_waits_with_its_old_version(replica):
    a, b = replica("a"), replica("b")
    book = Book.objects.using("a").create(shelf=Shelf.objects.using("a").create(name="1"), title="t")
    meet(a, b)
    other = Shelf.objects.using("a").create(name="2")
    Book.objects.using("a").update(shelf=other)
    b.pull(a, ("testapp.Book",))
    assert b.parked() == 1
    assert Book.objects.using("b").get(pk=book.pk).shelf.name == "1"
    b.pull(a, ("testapp.Shelf",))
    assert b.retry_parked() == 1
    assert a.rows() == b.rows()


def test_a_delete_of_a_row_that_is_still_referenced_is_parked(replica):
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    meet(a, b)
    book = Book.objects.using("b").create(shelf_id=shelf.pk, title="new")
    shelf.delete(using="a")
    b.pull(a, SHELVES)
    assert b.parked() == 1
    assert Parking.objects.using("b").get().reason == "still referenced"
    assert Shelf.objects.using("b").exists()
    assert not broken_references(b)
    book.delete(using="b")
    assert b.retry_parked() == 1
    meet(a, b)
    assert a.rows() == b.rows()
    assert not Shelf.objects.using("b").exists()


def test_a_parked_delete_keeps_the_many_to_many_rows(replica):
    """A delete that does not happen must not take anything with it."""
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    meet(a, b)
    Book.objects.using("b").create(shelf_id=shelf.pk, title="new")
    reader = Reader.objects.using("b").create()
    reader.shelves.add(Shelf.objects.using("b").get())
    shelf.delete(using="a")
    b.pull(a, SHELVES)
    assert b.parked() == 1
    assert reader.shelves.count() == 1
    b.retry_parked()
    assert reader.shelves.count() == 1


def test_many_to_many_rows_go_with_their_end(replica):
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    meet(a, b)
    reader = Reader.objects.using("b").create()
    reader.shelves.add(Shelf.objects.using("b").get())
    shelf.delete(using="a")
    b.pull(a, SHELVES)
    assert not Shelf.objects.using("b").exists()
    assert reader.shelves.count() == 0
    assert not broken_references(b)
    # The link that the other replica did not know of waits for the end's return, and is deleted if that does not come.
    assert bury_links(b.database, grace=datetime.timedelta(0)) == 1
    assert b.parked() == 0


@pytest.mark.parametrize("batch_size", [0, 1])
def test_two_models_that_refer_to_each_other_arrive(replica, batch_size):
    a, b = replica("a"), replica("b")
    for i in range(3):
        team = Team.objects.using("a").create(name=f"t{i}")
        player = Player.objects.using("a").create(name=f"p{i}", team=team)
        Team.objects.using("a").filter(pk=team.pk).update(captain=player)
    b.pull(a, CYCLE, batch_size=batch_size)
    b.retry_parked()
    b.pull(a, CYCLE, batch_size=batch_size)
    b.retry_parked()
    assert b.parked() == 0
    for label in CYCLE:
        assert a.raw(label) == b.raw(label)


def test_a_cycle_comes_in_though_another_parked_row_is_refused(replica):
    a, b = replica("a"), replica("b")
    Ruled.objects.using("a").bulk_create(Ruled(code=str(i)) for i in range(3))
    Ruled.objects.using("b").bulk_create(Ruled(code=str(i)) for i in range(3))
    for i in range(3):
        b.pull(a, ("testapp.Ruled",))
        team = Team.objects.using("a").create(name=f"t{i}")
        player = Player.objects.using("a").create(name=f"p{i}", team=team)
        Team.objects.using("a").filter(pk=team.pk).update(captain=player)
        b.pull(a, ("testapp.Team",))
        Ruled.objects.using("b").create(code=f"x{i}")
        Ruled.objects.using("a").create(code=f"x{i}")
        b.pull(a, ("testapp.Ruled",))
        b.pull(a, ("testapp.Player",))
    b.retry_parked()
    assert Parking.objects.using("b").count() == 6
    assert set(Parking.objects.using("b").values_list("reason", flat=True)) == {"unique value taken"}
    for label in CYCLE:
        assert a.raw(label) == b.raw(label)


def test_more_cycles_than_one_transaction_looks_at(replica):
    a, b = replica("a"), replica("b")
    teams = Team.objects.using("a").bulk_create(Team(name=f"t{i}") for i in range(520))
    players = Player.objects.using("a").bulk_create(Player(name=f"p{i}", team=t) for i, t in enumerate(teams))
    for team, player in zip(teams, players, strict=True):
        team.captain = player
    Team.objects.using("a").bulk_update(teams, ["captain"])
    b.pull(a, CYCLE)
    while b.retry_parked():
        pass
    assert b.parked() == 0
    for label in CYCLE:
        assert a.raw(label) == b.raw(label)


@pytest.mark.parametrize("batch_size", [0, 1, 2])
def test_rows_of_one_table_that_refer_to_each_other_arrive(replica, batch_size):
    a, b = replica("a"), replica("b")
    one, two, three = (Branch.objects.using("a").create() for _ in range(3))
    for child, parent in ((one, two), (two, three), (three, one)):
        Branch.objects.using("a").filter(pk=child.pk).update(parent=parent)
    b.pull(a, BRANCH, batch_size=batch_size)
    b.retry_parked()
    assert b.parked() == 0
    assert a.raw("testapp.Branch") == b.raw("testapp.Branch")


@pytest.mark.parametrize("batch_size", [0, 1])
def test_a_chain_in_one_table_arrives_in_any_order_and_goes_in_any_order(replica, batch_size):
    a, b = replica("a"), replica("b")
    rows = [Branch.objects.using("a").create() for _ in range(20)]
    for child, parent in itertools.pairwise(rows):
        Branch.objects.using("a").filter(pk=child.pk).update(parent=parent)
    b.pull(a, BRANCH, batch_size=batch_size)
    while b.retry_parked():
        pass
    assert a.raw("testapp.Branch") == b.raw("testapp.Branch")
    Branch.objects.using("a").all().delete()
    b.pull(a, BRANCH, batch_size=batch_size)
    while b.retry_parked():
        pass
    assert b.parked() == 0
    assert not Branch.objects.using("b").exists()


def test_a_cascade_by_django_arrives_as_deletes_of_both(replica):
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    Book.objects.using("a").bulk_create(Book(shelf=shelf, title=f"t{i}") for i in range(20))
    meet(a, b)
    shelf.delete(using="a")
    b.pull(a, ("testapp.Book", "testapp.Shelf"))
    assert b.parked() == 0
    assert not Shelf.objects.using("b").exists()
    assert not Book.objects.using("b").exists()


def test_a_local_child_of_a_parked_delete_revives_nothing_by_itself(replica):
    """An edit of the row that is to go starts a new life, and both replicas agree on it."""
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    meet(a, b)
    Book.objects.using("b").create(shelf_id=shelf.pk, title="new")
    shelf.delete(using="a")
    b.pull(a, SHELVES)
    Shelf.objects.using("b").update(name="kept")
    meet(a, b)
    assert a.rows() == b.rows()
    assert Shelf.objects.using("a").get().name == "kept"
    assert a.parked() == b.parked() == 0
    assert not Parking.objects.using("b").exists()
    assert not broken_references(a)
