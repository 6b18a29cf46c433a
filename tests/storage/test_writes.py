"""Every way to write (docs/writes-and-migrations.md): by SQL, by COPY, by cascades and triggers, by other roles."""

from __future__ import annotations

import io
import uuid
from typing import Any

import psycopg
import pytest
from django.core.management import call_command

from p2p_replication.storage.capture.installation import drift, install
from tests.databases import Database
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_capture import synced
from tests.testapp.models import Book, Coin, LongNames, Shelf

COIN = "testapp.Coin"
FIRST = {"a": ("A", 1), "b": ("B", 2), "c": ("C", 3)}


def coins(alias: str) -> dict[str, tuple[str, int]]:
    return {coin.code: (coin.name, coin.rate) for coin in Coin.objects.using(alias)}


def start_over(a: StorageReplica, b: StorageReplica) -> None:
    Coin.objects.using("a").all().delete()
    Coin.objects.using("a").bulk_create(Coin(code=code, name=name, rate=rate) for code, (name, rate) in FIRST.items())
    synced(a, b, COIN)


@pytest.fixture
def pair(replica) -> tuple[StorageReplica, StorageReplica]:
    """Two replicas with the coins of ``FIRST``."""
    a, b = replica("a"), replica("b")
    start_over(a, b)
    return a, b


INTO = "INSERT INTO testapp_coin (code, name, rate)"
#: ``{name: (what the coins are afterwards (None: gone), *statements of one transaction)}``
STATEMENTS: dict[str, tuple[Any, ...]] = {
    "insert": ({"d": ("D", 4), "e": ("", 5)}, f"{INTO} VALUES ('d', 'D', 4), ('e', '', 5)"),
    "insert from a select": (
        {"a2": ("A", 10), "b2": ("B", 20)},
        f"{INTO} SELECT code || '2', name, rate * 10 FROM testapp_coin WHERE rate < 3",
    ),
    "upsert": (
        {"a": ("A", 8), "d": ("D", 4)},
        f"{INTO} VALUES ('a', 'X', 8), ('d', 'D', 4) ON CONFLICT (code) DO UPDATE SET rate = excluded.rate",
    ),
    "upsert of no row": (
        {}, f"{INTO} VALUES ('a', 'X', 8) ON CONFLICT (code) DO UPDATE SET rate = 8 WHERE testapp_coin.rate > 8",
    ),
    "insert or nothing": ({"d": ("D", 4)}, f"{INTO} VALUES ('a', 'X', 8), ('d', 'D', 4) ON CONFLICT DO NOTHING"),
    "update": ({"a": ("A", 2), "b": ("B", 3)}, "UPDATE testapp_coin SET rate = rate + 1 WHERE code <> 'c'"),
    "update from": (
        {"b": ("B", 7)}, "UPDATE testapp_coin SET rate = v.r FROM (SELECT 'b' AS c, 7 AS r) v WHERE code = v.c",
    ),
    "delete": ({"a": None, "c": None}, "DELETE FROM testapp_coin WHERE code IN (SELECT code FROM testapp_coin) "
               "AND rate <> 2"),
    "delete all": ({"a": None, "b": None, "c": None}, "DELETE FROM testapp_coin"),
    "key change": ({"a": None, "z": ("A", 9)}, "UPDATE testapp_coin SET code = 'z', rate = 9 WHERE code = 'a'"),
    "all keys change": (
        {"a": None, "b": None, "c": None, "a!": ("A", 1), "b!": ("B", 2), "c!": ("C", 3)},
        "UPDATE testapp_coin SET code = code || '!'",
    ),
    "two keys are swapped": (
        {"a": ("B", 2), "b": ("A", 1)},
        "UPDATE testapp_coin SET code = '-' WHERE code = 'a'", "UPDATE testapp_coin SET code = 'a' WHERE code = 'b'",
        "UPDATE testapp_coin SET code = 'b' WHERE code = '-'",
    ),
    "delete and insert": (
        {"a": ("new", 1)}, "DELETE FROM testapp_coin WHERE code = 'a'", f"{INTO} VALUES ('a', 'new', 1)",
    ),
    "insert and delete": ({}, f"{INTO} VALUES ('d', 'D', 4)", "DELETE FROM testapp_coin WHERE code = 'd'"),
    "savepoints": (
        {"a": ("A", 5), "d": ("D", 4)},
        "SAVEPOINT one", f"{INTO} VALUES ('x', 'X', 1)", "UPDATE testapp_coin SET rate = 77", "ROLLBACK TO one",
        "UPDATE testapp_coin SET rate = 5 WHERE code = 'a'", "SAVEPOINT two", f"{INTO} VALUES ('d', 'D', 4)",
        "RELEASE two",
    ),
}  # fmt: skip

POSTGRESQL: dict[str, tuple[Any, ...]] = {
    "merge": (
        {"a": None, "b": ("B", 9), "d": ("D", 4)},
        "MERGE INTO testapp_coin t USING (VALUES ('a', 0), ('b', 9), ('d', 4)) v(code, rate) ON t.code = v.code "
        "WHEN MATCHED AND v.rate = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET rate = v.rate "
        "WHEN NOT MATCHED THEN INSERT (code, name, rate) VALUES (v.code, 'D', v.rate)",
    ),
    "truncate": (
        {"a": None, "b": None, "c": None, "d": ("D", 4)}, "TRUNCATE testapp_coin", f"{INTO} VALUES ('d', 'D', 4)",
    ),
    "copy from another table": (
        {"a": ("A", 2), "b": ("B", 3), "c": ("C", 4)},
        "CREATE TEMPORARY TABLE old ON COMMIT DROP AS TABLE testapp_coin", "TRUNCATE testapp_coin",
        f"{INTO} SELECT code, name, rate + 1 FROM old",
    ),
    "delete and insert in one statement": (
        {"a": ("again", 1)},
        f"WITH d AS (DELETE FROM testapp_coin WHERE code = 'a' RETURNING *) {INTO} SELECT code, 'again', rate FROM d",
    ),
    "three kinds in one statement": (
        {"a": ("A", 9), "b": None, "d": ("D", 4)},
        "WITH u AS (UPDATE testapp_coin SET rate = 9 WHERE code = 'a'), "
        f"d AS (DELETE FROM testapp_coin WHERE code = 'b') {INTO} VALUES ('d', 'D', 4)",
    ),
    "a block of plpgsql": (
        {"a": ("A", 100), "b": ("B", 200), "d": None, "e": ("E", 5)},
        f"DO $$ BEGIN UPDATE testapp_coin SET rate = rate * 100 WHERE code < 'c'; {INTO} VALUES ('e', 'E', 5); "
        f"BEGIN {INTO} VALUES ('d', 'D', 1); RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END; END $$",
    ),
    "triggers off for the session": (
        {"a": None, "b": ("B", 5), "d": ("D", 4)},
        "SET LOCAL session_replication_role = replica", f"{INTO} VALUES ('d', 'D', 4)",
        "UPDATE testapp_coin SET rate = 5 WHERE code = 'b'", "DELETE FROM testapp_coin WHERE code = 'a'",
    ),
}  # fmt: skip


def check(a: StorageReplica, b: StorageReplica, after: dict[str, Any], *statements: str) -> None:
    """Run the statements on the coins of ``FIRST``, and look what has become of them on both replicas."""
    start_over(a, b)
    a.outside(*statements)
    expected = {code: row for code, row in {**FIRST, **after}.items() if row is not None}
    assert coins("a") == expected
    synced(a, b, COIN)
    assert coins("b") == expected
    entries = a.entries(COIN)
    assert {key for key, entry in entries.items() if entry.inserted > entry.deleted} == set(expected)


def test_statements_of_another_client(pair):
    for name, (after, *statements) in STATEMENTS.items():
        print(name)
        check(*pair, after, *statements)
    assert not drift("a")


@pytest.mark.on("postgresql")
def test_statements_that_only_postgresql_has(pair):
    for name, (after, *statements) in POSTGRESQL.items():
        print(name)
        check(*pair, after, *statements)
    assert not drift("a")


@pytest.mark.on("postgresql")
def test_copy(pair):
    a, b = pair
    with (
        a.site.connect() as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY testapp_coin (code, name, rate) FROM STDIN") as copy,
    ):
        for i in range(3000):
            copy.write_row((f"k{i}", "copied", i))
    synced(a, b, COIN)
    assert Coin.objects.using("b").filter(name="copied").count() == 3000


@pytest.mark.on("postgresql")
def test_truncate_cascade_reaches_every_table(replica):
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    Book.objects.using("a").bulk_create(Book(shelf=shelf, title=str(i)) for i in range(3))
    b.pull(a)
    a.outside("TRUNCATE testapp_shelf CASCADE")
    books_and_shelves_are_gone(a, b)


def test_a_cascade_that_the_database_does(replica):
    """ON DELETE CASCADE in the schema: Django knows nothing of it, the triggers do."""
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    Book.objects.using("a").bulk_create(Book(shelf=shelf, title=str(i)) for i in range(3))
    b.pull(a)
    if a.site.vendor == "sqlite":
        a.outside(
            "CREATE TABLE new (id char(32) NOT NULL PRIMARY KEY, title varchar(200) NOT NULL, "
            "shelf_id char(32) NOT NULL REFERENCES testapp_shelf (id) ON DELETE CASCADE)",
            "INSERT INTO new SELECT id, title, shelf_id FROM testapp_book", "DROP TABLE testapp_book",
            "ALTER TABLE new RENAME TO testapp_book",
        )  # fmt: skip
    else:
        a.outside("ALTER TABLE testapp_book ADD FOREIGN KEY (shelf_id) REFERENCES testapp_shelf (id) ON DELETE CASCADE")
    install("a")
    a.sql("DELETE FROM testapp_shelf")
    books_and_shelves_are_gone(a, b)


def books_and_shelves_are_gone(a: StorageReplica, b: StorageReplica) -> None:
    assert not Book.objects.using("a").exists()
    for _ in range(2):
        b.pull(a)
        b.retry_parked()
    assert not Shelf.objects.using("b").exists() and not Book.objects.using("b").exists()
    assert not b.parked() and not b.post().entries


def add_trigger(site: Database, when: str, *statements: str) -> None:
    """Give the coins a trigger of the application's own, in either database's words."""
    body = "; ".join(statements) + ";"
    if site.vendor == "sqlite":
        event, _, condition = when.partition(" IF ")
        site.outside(f"CREATE TRIGGER own {event} ON testapp_coin FOR EACH ROW WHEN {condition or 1} BEGIN {body} END")
        return
    event, _, condition = when.partition(" IF ")
    site.outside(
        f"CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$",
        f"CREATE TRIGGER own {event} ON testapp_coin FOR EACH ROW WHEN ({condition or 'true'}) EXECUTE FUNCTION own()",
    )


def test_writes_of_the_applications_own_triggers(pair):
    a, b = pair
    add_trigger(
        a.site, "AFTER INSERT", "UPDATE testapp_coin SET rate = rate + 1 WHERE code = NEW.code",
        "DELETE FROM testapp_coin WHERE code = 'a'", "UPDATE testapp_coin SET name = 'by trigger' WHERE code = 'b'",
    )  # fmt: skip
    a.outside(f"{INTO} VALUES ('d', 'D', 4)")
    synced(a, b, COIN)
    assert coins("b") == {"b": ("by trigger", 2), "c": ("C", 3), "d": ("D", 5)}


def test_a_trigger_that_inserts_the_deleted_row_again(pair):
    """The database may fire it before ours: then the log ends with a delete of a row that is there."""
    a, b = pair
    add_trigger(a.site, "AFTER DELETE", f"{INTO} VALUES (OLD.code, 'back', OLD.rate)")
    a.outside("DELETE FROM testapp_coin WHERE code < 'c'")
    synced(a, b, COIN)
    assert coins("b") == {"a": ("back", 1), "b": ("back", 2), "c": ("C", 3)}
    a.outside("UPDATE testapp_coin SET rate = 9 WHERE code = 'a'")
    synced(a, b, COIN)


def test_a_trigger_can_stay_silent_where_rows_are_applied(pair):
    """What it writes while a peer's rows are applied is not captured: the peer's own trigger has done the same."""
    a, b = pair
    silent = {
        "sqlite": "NOT EXISTS (SELECT 1 FROM p2p_replication_applying)",
        "postgresql": "coalesce(current_setting('p2p_replication.applying', true), '') <> 'on'",
    }[a.site.vendor]
    for one in pair:
        add_trigger(one.site, f"AFTER UPDATE IF {silent} AND NEW.code = 'a'", "UPDATE testapp_coin SET rate = rate + 1 "
                    "WHERE code = 'b'")  # fmt: skip
    a.outside("UPDATE testapp_coin SET name = 'x' WHERE code = 'a'")
    synced(a, b, COIN)
    b.outside("UPDATE testapp_coin SET name = 'y' WHERE code = 'a'")
    synced(b, a, COIN)
    assert coins("a") == coins("b") == {"a": ("y", 1), "b": ("B", 4), "c": ("C", 3)}


@pytest.mark.on("postgresql")
def test_a_role_that_may_not_touch_our_tables(pair):
    """Who may write to the table is captured, whatever else it may not do, and whatever names it puts before ours."""
    a, b = pair
    role = f"clerk_{uuid.uuid4().hex}"
    a.outside(
        f"CREATE ROLE {role}", f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON testapp_coin TO {role}",
        f"CREATE SCHEMA traps AUTHORIZATION {role}",
    )  # fmt: skip
    try:
        a.outside(
            f"SET ROLE {role}", "CREATE TABLE traps.p2p_replication_changelogentry (id int)",
            "CREATE TEMPORARY TABLE p2p_replication_changelogentry (id int)", "SET search_path = traps, public",
            "UPDATE testapp_coin SET rate = 9 WHERE code = 'a'", "DELETE FROM testapp_coin WHERE code = 'b'",
            f"{INTO} VALUES ('d', 'D', 4)",
        )  # fmt: skip
        synced(a, b, COIN)
        assert coins("b") == {"a": ("A", 9), "c": ("C", 3), "d": ("D", 4)}
        a.outside(f"SET ROLE {role}", "TRUNCATE testapp_coin")
        synced(a, b, COIN)
        for forged in ("INSERT INTO p2p_replication_changelogentry SELECT", "SELECT * FROM p2p_replication_replica"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                a.outside(f"SET ROLE {role}", forged)
        ((function,),) = a.sql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'p2p_del_%%' "
                               "AND tgrelid = 'testapp_coin'::regclass")  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            # A table of its own with our trigger would let it log whatever it likes.
            a.outside(
                f"SET ROLE {role}", "CREATE TABLE traps.mine (code text)",
                "CREATE TRIGGER t AFTER DELETE ON traps.mine REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT "
                f"EXECUTE FUNCTION {function}()",
            )  # fmt: skip
    finally:
        a.outside(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_names_that_are_too_long_for_postgresql(replica):
    """It cuts them off after 63 bytes without a word; Django lets them pass."""
    a, b = replica("a"), replica("b")
    long = LongNames.objects.using("a").create(text="x", other=1)
    synced(a, b, "testapp.LongNames")
    LongNames.objects.using("a").update(text="y")
    LongNames.objects.using("b").update(other=2)
    meet(a, b, labels=("testapp.LongNames",))
    for alias in "ab":
        assert LongNames.objects.using(alias).values_list("text", "other").get() == ("y", 2)
    call_command("p2p", "triggers", "remove", database="a", stderr=io.StringIO())
    a.outside(f'DELETE FROM "{LongNames._meta.db_table}"')
    assert not a.log()
    assert install("a")["testapp.LongNames"].gone == 1
    synced(a, b, "testapp.LongNames")
    assert not LongNames.objects.using("b").filter(pk=long.pk).exists()


@pytest.mark.on("postgresql")
def test_a_partitioned_table(pair):
    """Writes to the table are captured; those that name a partition are not, and found when one looks."""
    a, b = pair
    a.outside(
        "CREATE TABLE parts (LIKE testapp_coin INCLUDING ALL) PARTITION BY LIST (code)",
        "CREATE TABLE part1 PARTITION OF parts FOR VALUES IN ('a', 'b')",
        "CREATE TABLE part2 PARTITION OF parts DEFAULT",
        "INSERT INTO parts SELECT * FROM testapp_coin", "DROP TABLE testapp_coin",
        "ALTER TABLE parts RENAME TO testapp_coin",
    )  # fmt: skip
    install("a")
    a.outside(f"{INTO} VALUES ('d', 'D', 4)", "UPDATE testapp_coin SET code = 'b2' WHERE code = 'b'",
              "DELETE FROM testapp_coin WHERE code = 'c'")  # fmt: skip
    synced(a, b, COIN)
    assert coins("b") == {"a": ("A", 1), "b2": ("B", 2), "d": ("D", 4)}
    a.outside("UPDATE part1 SET rate = 9")
    call_command("p2p", "rescan", "testapp.Coin", database="a", stdout=io.StringIO())
    synced(a, b, COIN)
    assert coins("b")["a"] == ("A", 9)
