"""A row is deleted on one replica while another one comes to refer to it: ``on_delete`` decides, and all end equal."""

from __future__ import annotations

import uuid

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from p2p_replication.models import Parking
from p2p_replication.storage.repairs import due_repairs
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_posting import states
from tests.storage.test_unique_clashes import same
from tests.testapp.models import SPARE_DESK, Branch, City, Country, Desk, Office, Player, Team, Thing

LABELS = ("testapp.Office", "testapp.Desk", "testapp.Thing")
DELETING = ("cascade", "db_cascade")
SETTING = ("set_null", "db_set_null", "set_default", "set_to")
KEEPING = ("protect", "restrict")


def mend(*replicas: StorageReplica, labels: tuple[str, ...] = LABELS, rounds: int = 4) -> None:
    """Meet, and repair at once everywhere, until there is nothing to repair."""
    meet(*replicas, labels=labels)
    for _ in range(rounds):
        done = [one.repair(labels) for one in replicas]
        meet(*replicas, labels=labels)
        if not any(done):
            return
    raise AssertionError("the repairs do not come to an end")


def clash(replica, field: str) -> tuple[list[StorageReplica], Desk, Thing]:
    """Three replicas: one deletes a desk that another one puts a thing on."""
    a, b, c = replica("a"), replica("b"), replica("c")
    Desk.objects.using("a").create(pk=SPARE_DESK, name="spare")
    desk = Desk.objects.using("a").create(name="desk")
    meet(a, b, c, labels=LABELS)
    thing = Thing.objects.using("b").create(**{f"{field}_id": desk.pk})
    Desk.objects.using("a").filter(pk=desk.pk).delete()
    meet(a, b, c, labels=LABELS)
    return [a, b, c], desk, thing


@pytest.mark.parametrize("field", [*DELETING, *SETTING, *KEEPING, "nothing"])
@pytest.mark.on("sqlite", "postgresql")
def test_a_delete_that_meets_a_new_child(replica, field):
    replicas, desk, thing = clash(replica, field)
    mend(*replicas)
    for one in replicas:
        desks = Desk.objects.using(one.alias)
        left = Thing.objects.using(one.alias).filter(pk=thing.pk).first()
        if field == "nothing":
            assert Parking.objects.using(one.alias).get().reason == "missing parent"
            assert not desks.filter(pk=desk.pk).exists()
            assert left is None
            continue
        assert one.parked() == 0
        assert desks.filter(pk=desk.pk).exists() == (field in KEEPING)
        assert (left is None) == (field in DELETING)
        if left is not None:
            expected = {"set_to": SPARE_DESK}.get(field, desk.pk if field in KEEPING else None)
            assert getattr(left, f"{field}_id") == expected
    same(*replicas, labels=LABELS)


@pytest.mark.parametrize("field", ["cascade", "set_null"])
def test_it_is_mended_without_the_replica_that_made_the_child(replica, field):
    (a, b, c), _, thing = clash(replica, field)
    assert (a.parked(), c.parked()) == (1, 1)
    mend(a, c)
    assert (a.parked(), c.parked()) == (0, 0)
    for one in (a, c):
        assert Thing.objects.using(one.alias).filter(pk=thing.pk).exists() == (field == "set_null")
    mend(a, b, c)
    same(a, b, c, labels=LABELS)


def test_nothing_is_repaired_before_it_is_asked_for(replica):
    """What was deleted together arrives one model after another."""
    (a, b, c), _, thing = clash(replica, "cascade")
    assert Thing.objects.using("b").filter(pk=thing.pk).exists()
    assert (a.parked(), b.parked(), c.parked()) == (1, 1, 1)
    assert len(due_repairs(b.database, LABELS)) == 1
    assert due_repairs(b.database, ("testapp.Desk",)) == []


@pytest.mark.on("sqlite", "postgresql")
def test_a_cascade_goes_as_far_as_it_does_in_django(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    office = Office.objects.using("a").create()
    meet(a, b, c, labels=LABELS)
    desk = Desk.objects.using("b").create(office_id=office.pk)
    thing = Thing.objects.using("b").create(cascade_id=desk.pk)
    Thing.objects.using("b").create(part_of_id=thing.pk)
    kept = Thing.objects.using("b").create(set_null_id=desk.pk)
    Office.objects.using("a").all().delete()
    mend(a, b, c)
    for one in (a, b, c):
        assert not Office.objects.using(one.alias).exists()
        assert not Desk.objects.using(one.alias).exists()
        assert Thing.objects.using(one.alias).get().pk == kept.pk
        assert one.parked() == 0
    same(a, b, c, labels=LABELS)


@pytest.mark.on("sqlite", "postgresql")
def test_a_protected_row_comes_back_with_all_that_it_refers_to(replica):
    """A deletes an office with its desk, B puts a protecting thing on the desk."""
    a, b, c = replica("a"), replica("b"), replica("c")
    office = Office.objects.using("a").create(name="office")
    desk = Desk.objects.using("a").create(name="desk", office=office)
    meet(a, b, c, labels=LABELS)
    Thing.objects.using("b").create(protect_id=desk.pk)
    office.delete(using="a")
    mend(a, b, c)
    for one in (a, b, c):
        assert Office.objects.using(one.alias).get().name == "office"
        assert Desk.objects.using(one.alias).get().office.name == "office"
        assert Thing.objects.using(one.alias).get().protect_id == desk.pk
        assert one.parked() == 0
    same(a, b, c, labels=LABELS)


@pytest.mark.parametrize("field", KEEPING)
@pytest.mark.on("sqlite", "postgresql")
def test_a_row_that_is_referred_to_by_another_field_than_its_key_comes_back(replica, field):
    labels = ("testapp.Country", "testapp.City")
    a, b, c = replica("a"), replica("b"), replica("c")
    Country.objects.using("a").create(code="de")
    meet(a, b, c, labels=labels)
    City.objects.using("b").create(**{f"{field}_id": "de"})
    Country.objects.using("a").get().delete()
    mend(a, b, c, labels=labels)
    for one in (a, b, c):
        assert getattr(City.objects.using(one.alias).get(), field).code == "de"
        assert one.parked() == 0
    same(a, b, c, labels=labels)


def test_a_protected_row_further_down_keeps_the_one_at_the_top(replica):
    """The delete of the office would take the new desk along, which a new thing protects."""
    a, b, c = replica("a"), replica("b"), replica("c")
    office = Office.objects.using("a").create(name="office")
    meet(a, b, c, labels=LABELS)
    desk = Desk.objects.using("b").create(office_id=office.pk)
    Thing.objects.using("b").create(protect_id=desk.pk)
    Office.objects.using("a").all().delete()
    mend(a, b, c)
    for one in (a, b, c):
        assert Office.objects.using(one.alias).get().name == "office"
        assert Thing.objects.using(one.alias).get().protect_id == desk.pk
        assert one.parked() == 0
    same(a, b, c, labels=LABELS)


def test_a_restricted_row_goes_if_its_referrer_goes_anyway(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    desk = Desk.objects.using("a").create()
    meet(a, b, c, labels=LABELS)
    Thing.objects.using("b").create(restrict_id=desk.pk, cascade_id=desk.pk)
    Desk.objects.using("a").all().delete()
    mend(a, b, c)
    for one in (a, b, c):
        assert not Desk.objects.using(one.alias).exists()
        assert one.parked() == 0
    same(a, b, c, labels=LABELS)


@pytest.mark.on("sqlite", "postgresql")
def test_a_default_that_is_deleted_as_well_is_no_repair(replica):
    """Nothing can be made of the row; it waits everywhere, and is back when the default is."""
    a, b = replica("a"), replica("b")
    desk = Desk.objects.using("a").create()
    Desk.objects.using("a").create(pk=SPARE_DESK)
    meet(a, b, labels=LABELS)
    thing = Thing.objects.using("b").create(set_to_id=desk.pk)
    Desk.objects.using("a").all().delete()
    mend(a, b)
    for one in (a, b):
        assert not Thing.objects.using(one.alias).exists()
        assert one.parked() == 1
        assert states(one, "testapp.Thing")[thing.pk.bytes].values["set_to"] == desk.pk.bytes
    same(a, b, labels=LABELS)
    Desk.objects.using("a").create(pk=SPARE_DESK)
    mend(a, b)
    for one in (a, b):
        assert Thing.objects.using(one.alias).get().pk == thing.pk
        assert Thing.objects.using(one.alias).get().set_to_id == SPARE_DESK
    same(a, b, labels=LABELS)


@pytest.mark.on("sqlite", "postgresql")
def test_deleted_rows_that_refer_to_each_other_go_together(replica):
    labels = ("testapp.Team", "testapp.Player")
    a, b = replica("a"), replica("b")
    team = Team.objects.using("a").create(name="t")
    player = Player.objects.using("a").create(name="p", team=team)
    Team.objects.using("a").update(captain=player)
    meet(a, b, labels=labels)
    new = Player.objects.using("b").create(name="new", team_id=team.pk)
    team.delete(using="a")
    mend(a, b, labels=labels)
    for one in (a, b):
        assert not Team.objects.using(one.alias).exists()
        assert not Player.objects.using(one.alias).filter(pk=new.pk).exists()
        assert one.parked() == 0
    same(a, b, labels=labels)


def test_a_subtree_that_grew_elsewhere_goes_with_its_root(replica):
    labels = ("testapp.Branch",)
    a, b, c = replica("a"), replica("b"), replica("c")
    root = Branch.objects.using("a").create()
    meet(a, b, c, labels=labels)
    at_b = Branch.objects.using("b").create(parent_id=root.pk)
    Branch.objects.using("b").create(parent_id=at_b.pk)
    Branch.objects.using("c").create(parent_id=root.pk)
    root.delete(using="a")
    mend(a, b, c, labels=labels)
    for one in (a, b, c):
        assert not Branch.objects.using(one.alias).exists()
        assert one.parked() == 0
    same(a, b, c, labels=labels)


def test_a_row_that_moved_away_is_not_deleted_with_the_place_it_left(replica):
    """Its old version is in the table only because the place that it moved to is not here yet."""
    a, b = replica("a"), replica("b")
    old, thing_pk = Desk.objects.using("a").create(name="old"), uuid.uuid4()
    Thing.objects.using("a").create(pk=thing_pk, cascade=old)
    meet(a, b, labels=LABELS)
    new = Desk.objects.using("a").create(name="new")
    with transaction.atomic(using="a"):
        Thing.objects.using("a").update(cascade=new)
        old.delete(using="a")
    b.pull(a, ("testapp.Thing",))
    assert b.parked() == 1
    b.pull(a, ("testapp.Desk",))
    assert b.parked() == 2
    b.repair(LABELS)
    mend(a, b)
    for one in (a, b):
        assert Thing.objects.using(one.alias).get().cascade_id == new.pk
        assert one.parked() == 0
    same(a, b, labels=LABELS)


def test_an_edit_that_is_newer_than_the_delete_stays_in_the_ledger(replica):
    """The row is deleted all the same, but every replica must say the same of it."""
    a, b = replica("a"), replica("b")
    desk = Desk.objects.using("a").create()
    meet(a, b, labels=LABELS)
    Thing.objects.using("b").create(cascade_id=desk.pk)
    Desk.objects.using("a").all().delete()
    a.post()
    Desk.objects.using("b").update(name="later")
    mend(a, b)
    assert [field for field, _ in states(a, "testapp.Desk")[desk.pk.bytes].fields().items()] == ["name"]
    assert states(a, "testapp.Desk") == states(b, "testapp.Desk")
    same(a, b, labels=LABELS)


HOUR_MS = 3_600_000


def an_hour_ahead(replica: StorageReplica) -> None:
    """What a replica is about to post was written by a clock that is an hour ahead."""
    replica.sql("UPDATE p2p_replication_changelogentry SET wall = wall + %s", [HOUR_MS])
    replica.post()


def later(replica: StorageReplica) -> None:
    now_ms = replica.database.now_ms
    replica.database.now_ms = lambda: now_ms() + 2 * HOUR_MS


@pytest.mark.on("sqlite", "postgresql")
def test_a_delete_whose_time_has_not_come_is_not_carried_out(replica):
    a, b = replica("a"), replica("b")
    desk = Desk.objects.using("a").create()
    meet(a, b, labels=LABELS)
    thing = Thing.objects.using("b").create(cascade_id=desk.pk)
    b.post()
    desk.delete(using="a")
    an_hour_ahead(a)
    b.pull(a, LABELS)
    assert Parking.objects.using("b").get().reason == "clock ahead"
    assert due_repairs(b.database, LABELS) == []
    assert b.repair(LABELS) == 0
    assert Thing.objects.using("b").get().pk == thing.pk
    later(b)
    assert b.repair(LABELS) == 1
    assert not Thing.objects.using("b").exists() and not Desk.objects.using("b").exists()


@pytest.mark.on("sqlite", "postgresql")
def test_a_delete_waits_for_that_of_a_referrer_whose_time_has_not_come(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    desk = Desk.objects.using("a").create()
    thing = Thing.objects.using("a").create(protect=desk)
    meet(a, b, c, labels=LABELS)
    thing.delete(using="a")
    an_hour_ahead(a)
    b.pull(a, LABELS)
    Thing.objects.using("c").all().delete()
    Desk.objects.using("c").all().delete()
    c.post()
    b.pull(c, ("testapp.Desk",))
    assert due_repairs(b.database, LABELS) == []
    assert b.repair(LABELS) == 0
    assert Thing.objects.using("b").exists() and Desk.objects.using("b").exists()
    later(b)
    b.retry_parked()
    b.retry_parked()
    assert not Thing.objects.using("b").exists() and not Desk.objects.using("b").exists()


@pytest.mark.on("sqlite", "postgresql")
def test_an_orphan_whose_time_has_not_come_is_left_alone(replica):
    a, b = replica("a"), replica("b")
    desk = Desk.objects.using("a").create()
    meet(a, b, labels=LABELS)
    Thing.objects.using("b").create(cascade_id=desk.pk)
    an_hour_ahead(b)
    desk.delete(using="a")
    a.post()
    a.pull(b, LABELS)
    assert due_repairs(a.database, LABELS) == []
    assert a.repair(LABELS) == 0
    later(a)
    assert a.repair(LABELS) == 1
    assert a.parked() == 0


def test_a_large_cascade_takes_several_transactions(replica):
    a, b = replica("a"), replica("b")
    desk = Desk.objects.using("a").create()
    meet(a, b, labels=LABELS)
    b.database.budget.rows = lambda: 16
    Thing.objects.using("b").bulk_create(Thing(cascade_id=desk.pk) for _ in range(100))
    Desk.objects.using("a").all().delete()
    meet(a, b, labels=LABELS)
    with CaptureQueriesContext(connections["b"]) as queries:
        b.repair(LABELS)
    deletes = [0]
    for query in queries:
        if query["sql"].startswith("BEGIN"):
            deletes.append(0)
        deletes[-1] += query["sql"].startswith('DELETE FROM "testapp_thing"')
    assert sum(deletes) == 100
    assert max(deletes) < 40
    mend(a, b)
    assert not Thing.objects.using("b").exists()
    assert a.parked() == b.parked() == 0
    same(a, b, labels=LABELS)
