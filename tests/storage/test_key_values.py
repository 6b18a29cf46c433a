"""Rows with local primary keys as a project's own code sees them: in filters, modifiers, signals and local writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db.models.signals import post_delete, post_save

from p2p_replication import local_writes
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.where import canonical_where
from p2p_replication.protocol.row_filter import RowFilter
from p2p_replication.registry import registry
from p2p_replication.signals import rows_replicated
from p2p_replication.storage.row_values import python_row, wire_values
from tests.office.models import Errand
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_keys import LABELS, assert_equal, burn
from tests.storage.test_replicated_rows import hearing, with_signals
from tests.testapp.models import Crate, Depot

pytestmark = pytest.mark.on("sqlite", "postgresql")


@pytest.fixture
def two(replica: Any) -> tuple[StorageReplica, StorageReplica]:
    a, b = replica("a"), replica("b")
    burn(a, 1000)
    burn(b, 2000)
    return a, b


def wire_row(replica: StorageReplica, label: str) -> tuple[str, dict[str, Any]]:
    """The only row of a table."""
    table = replica.stream(label).table
    ((key, row),) = table.read(list(replica.keys(label))).items()
    return key, dict(zip(table.names, row, strict=True))


def test_a_filter_compares_foreign_keys_by_what_all_replicas_know(two):
    a, _ = two
    options = registry.for_model(Crate)
    north = Depot.objects.using("a").create(slug="north")
    crate = Crate.objects.using("a").create(depot=north)
    part = Crate.objects.using("a").create(depot=north, inside=crate)
    table = a.stream("testapp.Crate").table
    rows = table.read(list(a.keys("testapp.Crate")))
    for where, found in (
        ({"depot": north}, {crate.uid, part.uid}),
        ({"depot_id": "north"}, {crate.uid, part.uid}),
        ({"depot__in": ["south"]}, set()),
        ({"inside": crate}, {part.uid}),
        ({"inside": str(crate.uid)}, {part.uid}),
        ({"inside__isnull": True}, {crate.uid}),
    ):
        row_filter = RowFilter.parse(canonical_where(options, where))
        matching = {key for key, row in rows.items() if row_filter.matches(dict(zip(table.names, row, strict=True)))}
        assert matching == {a.site.key(uid) for uid in found}, where
    for where, why in (
        ({"inside": crate.pk}, "a number of this database; give the object, or its uid"),
        ({"uid": crate.uid}, "is its key"),
        ({"id": crate.pk}, "does not travel"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            canonical_where(options, where)


def test_a_filter_compares_natural_keys(two):
    a, _ = two
    options = registry.for_model(Errand)
    staff = Group.objects.using("a").create(name="staff")
    Errand.objects.using("a").create(group=staff)
    _, values = wire_row(a, "office.Errand")
    for where in ({"group": staff}, {"group": ["staff"]}, {"group__in": [staff, ("others",)]}):
        assert RowFilter.parse(canonical_where(options, where)).matches(values)
    assert not RowFilter.parse(canonical_where(options, {"group": ["others"]})).matches(values)
    for where, why in (
        ({"group": staff.pk}, "give the object, or its natural key as a list"),
        ({"group": "staff"}, "give the object, or its natural key as a list"),
        ({"group__startswith": "s"}, "takes exact, in, isnull"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            canonical_where(options, where)


def test_a_modifier_sees_keys_in_place_of_local_numbers(two):
    a, _ = two
    crate = Crate.objects.using("a").create(depot=Depot.objects.using("a").create(slug="north"), label="c")
    table = a.stream("testapp.Crate").table
    key, wire = wire_row(a, "testapp.Crate")
    seen = python_row(table, key, wire)
    assert seen == {"uid": crate.uid, "depot_id": "north", "inside_id": None, "label": "c"}
    changed = wire_values(table, seen, {**seen, "depot_id": "south", "inside_id": crate.uid}, wire)
    assert changed == {"depot": "south", "inside": crate.uid.bytes, "label": "c"}
    with pytest.raises(ValueError, match="can't be changed"):
        wire_values(table, seen, {**seen, "uid": None}, wire)


def test_a_modifier_sees_natural_keys_as_lists(two):
    a, _ = two
    Errand.objects.using("a").create(group=Group.objects.using("a").create(name="staff"))
    table = a.stream("office.Errand").table
    key, wire = wire_row(a, "office.Errand")
    seen = python_row(table, key, wire)
    assert (seen["group_id"], seen["owner_id"]) == (["staff"], None)
    assert wire_values(table, seen, {**seen, "group_id": ("others",)}, wire)["group"] == json.dumps(["others"])
    assert wire_values(table, seen, {**seen, "group_id": None}, wire)["group"] is None
    with pytest.raises(ValueError, match="as a list"):
        wire_values(table, seen, {**seen, "group_id": "others"}, wire)


def test_signals_tell_the_keys_that_all_replicas_know(two, monkeypatch):
    a, b = two
    with_signals(b, "testapp.Depot", monkeypatch)
    Depot.objects.using("a").create(slug="north")
    with hearing(rows_replicated, Depot) as heard, hearing(post_save, Depot) as saved:
        b.pull(a, ("testapp.Depot",))
        b.database.arrivals.tell()
    assert [(told["inserted"], told["updated"]) for told in heard] == [(["north"], [])]
    assert [told["instance"] for told in saved] == [Depot.objects.using("b").get(slug="north")]
    number = saved[0]["instance"].pk
    Depot.objects.using("a").all().delete()
    with hearing(rows_replicated, Depot) as heard, hearing(post_delete, Depot) as deleted:
        b.pull(a, ("testapp.Depot",))
        b.database.arrivals.tell()
    assert [told["deleted"] for told in heard] == [["north"]]
    assert [told["instance"].pk for told in deleted] == [number]


def test_local_writes_are_nobodys_edit(two):
    a, b = two
    north = Depot.objects.using("a").create(slug="north")
    Crate.objects.using("a").create(depot=north, label="c")
    meet(a, b, labels=LABELS)
    for one in two:
        one.sent_rows = 0
        with local_writes(using=one.alias):
            Crate.objects.using(one.alias).update(label="C")
            Depot.objects.using(one.alias).update(name="N")
    meet(a, b, labels=LABELS)
    assert (a.sent_rows, b.sent_rows) == (0, 0)
    assert_equal(a, b)


def test_what_waits_for_its_target_gives_way_to_local_writes(two):
    a, b = two
    Errand.objects.using("a").create(group=Group.objects.using("a").create(name="staff"))
    meet(a, b, labels=("office.Errand",))
    others = Group.objects.using("b").create(name="others")
    Group.objects.using("b").create(name="staff")
    with local_writes(using="b"):
        Errand.objects.using("b").update(group=others)
    b.retry_parked()
    assert Errand.objects.using("b").get().group == others
    assert not b.entry(Errand.objects.using("b").get()).held
