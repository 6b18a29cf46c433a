"""Writes that no trigger saw: whatever turned them off is noticed, and the writes are found."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from p2p_replication.storage.capture.installation import drift, install, remove
from p2p_replication.storage.capture.reconciliation import Reconciled
from p2p_replication.storage.ledger import load_entries
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_capture import synced
from tests.testapp.models import Coin, Ruled

COIN = "testapp.Coin"
WRITES = (
    "INSERT INTO testapp_coin (code, name, rate) VALUES ('d', 'unseen', 4)",
    "UPDATE testapp_coin SET rate = 9 WHERE code = 'a'",
    "DELETE FROM testapp_coin WHERE code = 'b'",
)


def our_triggers(a: StorageReplica) -> list[str]:
    if a.site.vendor == "sqlite":
        sql = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'testapp_coin'"
    else:
        sql = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'testapp_coin'::regclass AND tgname LIKE 'p2p%%'"
    return [name for (name,) in a.sql(sql)]


def dropped(a: StorageReplica) -> None:
    table = "" if a.site.vendor == "sqlite" else " ON testapp_coin"
    a.outside(*(f'DROP TRIGGER "{name}"{table}' for name in our_triggers(a)), *WRITES)


def disabled(a: StorageReplica) -> None:
    a.outside("ALTER TABLE testapp_coin DISABLE TRIGGER USER", *WRITES)


def disabled_for_a_while(a: StorageReplica) -> None:
    """What ``pg_restore --disable-triggers`` does."""
    a.outside("ALTER TABLE testapp_coin DISABLE TRIGGER ALL", *WRITES, "ALTER TABLE testapp_coin ENABLE TRIGGER ALL")


def functions_dropped(a: StorageReplica) -> None:
    a.outside(*(f'DROP FUNCTION "{name}" CASCADE' for name in our_triggers(a)), *WRITES)


def emptied(a: StorageReplica) -> None:
    """The triggers are as they were made, in name."""
    a.outside(
        *(f"CREATE OR REPLACE FUNCTION \"{name}\"() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
          for name in our_triggers(a)), *WRITES,
    )  # fmt: skip


def table_exchanged(a: StorageReplica) -> None:
    a.outside(
        "CREATE TABLE new (code varchar(20) PRIMARY KEY, name varchar(50) NOT NULL, rate integer NOT NULL)",
        "INSERT INTO new SELECT code, name, rate FROM testapp_coin", "DROP TABLE testapp_coin",
        "ALTER TABLE new RENAME TO testapp_coin", *WRITES,
    )  # fmt: skip


@pytest.mark.parametrize("unseen", [dropped, table_exchanged])
def test_triggers_that_were_off(replica, unseen):
    found_and_replicated(replica("a"), replica("b"), unseen)


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("unseen", [disabled, disabled_for_a_while, functions_dropped, emptied])
def test_triggers_that_were_off_as_only_postgresql_knows_it(replica, unseen):
    found_and_replicated(replica("a"), replica("b"), unseen)


def found_and_replicated(a: StorageReplica, b: StorageReplica, unseen: Callable[[StorageReplica], None]) -> None:
    Coin.objects.using("a").bulk_create(Coin(code=code, rate=1) for code in "abc")
    synced(a, b, COIN)
    Coin.objects.using("b").filter(code="a").update(name="from b")
    unseen(a)
    assert not a.log()
    assert [found.label for found in drift("a")] == [COIN]
    found = install("a")[COIN]  # what a worker does at its start
    assert (found.adopted, found.changed, found.gone) == (1, 1, 1)
    assert not drift("a") and not install("a")
    meet(a, b, labels=(COIN,))
    assert a.raw(COIN) == b.raw(COIN)
    assert {c.code: (c.name, c.rate) for c in Coin.objects.using("b")} == {
        "a": ("from b", 9), "c": ("", 1), "d": ("unseen", 4),
    }  # fmt: skip
    Coin.objects.using("a").update(rate=50)
    synced(a, b, COIN)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("5", "5.0"),
        ("5.0", "5"),
        ("2024-01-01", "2024-01-01 00:00:00"),
        ("1", "true"),
        ("a" * 32, f"{uuid.UUID('a' * 32)}"),
    ],
)
def test_texts_that_mean_the_same_are_different_texts(replica, before, after):
    """Reconciliation forgives what a change of the column's type does to values, and nothing else."""
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="x", name=before)
    synced(a, b, COIN)
    remove("a")
    a.outside(f"UPDATE testapp_coin SET name = '{after}'")
    assert install("a")[COIN].changed == 1
    synced(a, b, COIN)
    assert Coin.objects.using("b").get().name == after


def test_a_default_in_the_place_of_a_null_is_an_edit_where_nulls_may_be(replica):
    a, b = replica("a"), replica("b")
    Ruled.objects.using("a").create(code=None, left=None)
    synced(a, b, "testapp.Ruled")
    remove("a")
    a.outside("UPDATE testapp_ruled SET code = ''")
    assert install("a")["testapp.Ruled"].changed == 1
    synced(a, b, "testapp.Ruled")
    assert Ruled.objects.using("b").get().code == ""


@pytest.mark.parametrize("posts", [True, False])
def test_a_row_that_came_again_unseen_after_a_delete_that_waits_is_new_from_then_on(replica, posts):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="x", name="old", rate=1)
    if posts:
        synced(a, b, COIN)
    Coin.objects.using("a").all().delete()
    remove("a")
    a.outside("INSERT INTO testapp_coin (code, name, rate) VALUES ('x', 'unseen', 2)")
    assert install("a")[COIN].adopted == 1
    assert not install("a", because="test")[COIN].total
    Coin.objects.using("a").update(name="new")
    a.post()
    entry = load_entries(a.database.connection, a.stream(COIN).id, ["x"])["x"]
    clocks = {name: entry.field_clocks.get(name, entry.clock) for name in ("name", "rate")}
    assert clocks["rate"] == entry.inserted < clocks["name"]
    synced(a, b, COIN)


@pytest.mark.parametrize("unseen", ["edited", "deleted", "inserted"])
def test_what_is_written_unseen_over_a_parked_row_counts(replica, unseen):
    """The table has an older version of the row, or none."""
    a, b = replica("a"), replica("b")
    coin = Coin(code="x", name="old", rate=1)
    if unseen != "inserted":
        coin.save(using="a")
        synced(a, b, COIN)
    b.outside("CREATE UNIQUE INDEX only_one ON testapp_coin (rate)")
    Coin.objects.using("b").create(code="other", rate=7)
    coin.rate = 7
    coin.save(using="a")
    b.pull(a, (COIN,))
    assert b.parked() == 1
    remove("b")
    b.outside(
        {
            "edited": "UPDATE testapp_coin SET name = 'unseen' WHERE code = 'x'",
            "deleted": "DELETE FROM testapp_coin WHERE code = 'x'",
            "inserted": "INSERT INTO testapp_coin (code, name, rate) VALUES ('x', 'unseen', 2)",
        }[unseen]
    )
    assert install("b")[COIN].total == 1
    b.post()
    assert install("b", because="test").get(COIN, Reconciled()).total == 0
    b.outside("DROP INDEX only_one")
    meet(a, b, labels=(COIN,))
    assert a.raw(COIN) == b.raw(COIN)
    expected = {"edited": ("unseen", 7), "inserted": ("unseen", 2)}
    found = Coin.objects.using("a").filter(code="x").values_list("name", "rate").first()
    assert found == expected.get(unseen)
