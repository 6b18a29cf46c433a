"""Every kind of write, by whomever, reaches the other replica; what was rolled back or changed nothing does not."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import connections, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat

from p2p_replication.models import LedgerEntry, Operation, uuid7
from p2p_replication.storage.capture.installation import drift
from tests.storage.conftest import meet
from tests.testapp.models import Book, Coin, KeyOnly, Note, OddNames, Ruled, Sample, Shelf, Wide

NOTE = ("testapp.Note",)
RULED = ("testapp.Ruled",)
COIN = ("testapp.Coin",)
INSERT = "INTO testapp_ruled (id, code, {columns}amount, label, must) VALUES (%s, %s, {values}%s, '', '')"


def insert(how: str, key: object, code: str | None, amount: int = 0, extra: dict[str, int] | None = None):
    extra = extra or {}
    sql = how + " " + INSERT.format(
        columns="".join(f'"{name}", ' for name in extra), values="%s, " * len(extra)
    )  # fmt: skip
    return sql, [getattr(key, "hex", key), code, *extra.values(), amount]


def synced(a, b, label: str) -> None:
    """What happened at one replica arrives whole, and comes back as nothing."""
    b.pull(a, (label,))
    assert a.raw(label) == b.raw(label)
    assert b.parked() == 0
    assert b.post().entries == 0
    sent = b.sent_rows
    a.pull(b, (label,))
    assert b.sent_rows == sent


WRITES = {
    "save": lambda q: [setattr(n := q.get(title="n1"), "stars", 9), n.save(using="a")],
    "bulk_create": lambda q: q.bulk_create([Note(title="x"), Note(title="y")]),
    "bulk_create ignoring": lambda q: q.bulk_create(
        [Note(pk=q.get(title="n1").pk, title="never"), Note(title="x")], ignore_conflicts=True
    ),
    "bulk_create updating": lambda q: q.bulk_create(
        [Note(pk=q.get(title="n1").pk, title="changed"), Note(title="x")],
        update_conflicts=True, unique_fields=["id"], update_fields=["title"],
    ),
    "update": lambda q: q.filter(stars__lt=3).update(stars=50),
    "F": lambda q: q.update(stars=F("stars") + 1, title=Concat("title", Value("!"))),
    "bulk_update": lambda q: q.bulk_update([Note(pk=n.pk, stars=77) for n in q.all()[:3]], ["stars"]),
    "delete": lambda q: q.filter(stars=2).delete(),
    "delete all": lambda q: q.all().delete(),
    "get_or_create": lambda q: q.get_or_create(title="n1", defaults={"stars": 1}),
    "update_or_create": lambda q: q.update_or_create(title="n1", defaults={"stars": 41}),
    "select_for_update": lambda q: q.filter(pk__in=q.values("pk")).update(body="b"),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
def test_writes_of_the_orm(replica, write):
    a, b = replica("a"), replica("b")
    Note.objects.using("a").bulk_create(Note(title=f"n{i}", stars=i) for i in range(5))
    synced(a, b, "testapp.Note")
    write(Note.objects.using("a"))
    synced(a, b, "testapp.Note")


def test_raw_statements_and_executemany(replica):
    a, b = replica("a"), replica("b")
    keys = [uuid7().hex for _ in range(6)]
    with connections["a"].cursor() as cursor:
        cursor.executemany(*zip_many([insert("INSERT", key, f"c{i}", i) for i, key in enumerate(keys)]))
        synced(a, b, "testapp.Ruled")
        cursor.executemany(
            "UPDATE testapp_ruled SET amount = %s WHERE id = %s", [(50 + i, k) for i, k in enumerate(keys)]
        )
        cursor.executemany("DELETE FROM testapp_ruled WHERE id = %s", [(keys[0],), (keys[1],)])
        cursor.execute("UPDATE testapp_ruled SET amount = amount + 1, label = code RETURNING id")
        assert len(cursor.fetchall()) == 4
    synced(a, b, "testapp.Ruled")
    with connections["a"].cursor() as cursor:
        cursor.execute("DELETE FROM testapp_ruled")  # SQLite would truncate if there were no triggers
    synced(a, b, "testapp.Ruled")
    assert not Ruled.objects.using("b").exists()


def zip_many(statements):
    assert len({sql for sql, _ in statements}) == 1
    return statements[0][0], [params for _, params in statements]


ONE, TWO, NEW = (uuid.UUID(int=i) for i in (1, 2, 3))
CONFLICTS = {
    "replace by key": insert("INSERT OR REPLACE", ONE, "1", 8),
    "replace by key, nothing changed": insert("INSERT OR REPLACE", ONE, "1", 1),
    "replace evicts": insert("INSERT OR REPLACE", NEW, "1", 8),
    "replace by key evicts another": insert("INSERT OR REPLACE", ONE, "2", 8),
    "replace evicts by two columns": insert("INSERT OR REPLACE", NEW, "new", 8, {"left": 1, "right": 1}),
    "replace evicts two": insert("INSERT OR REPLACE", NEW, "1", 8, {"left": 2, "right": 2}),
    "REPLACE": insert("REPLACE", NEW, "1", 8),
    "ignored": insert("INSERT OR IGNORE", NEW, "1", 8),
    "ignored by key": insert("INSERT OR IGNORE", ONE, "new", 8),
    "upsert": (insert("INSERT", NEW, "1", 8)[0] + " ON CONFLICT (code) DO UPDATE SET amount = 99", [NEW.hex, "1", 8]),
    "upsert nothing": (insert("INSERT", NEW, "1", 8)[0] + " ON CONFLICT DO NOTHING", [NEW.hex, "1", 8]),
    "update or replace": ("UPDATE OR REPLACE testapp_ruled SET code = '2', amount = 8 WHERE id = %s", [ONE.hex]),
    "update or replace, many": ("UPDATE OR REPLACE testapp_ruled SET code = 'same'", []),
    "update or ignore": ("UPDATE OR IGNORE testapp_ruled SET code = '2' WHERE id = %s", [ONE.hex]),
    "key change": ("UPDATE testapp_ruled SET id = %s, amount = 5 WHERE id = %s", [NEW.hex, ONE.hex]),
    "key change replaces": ("UPDATE OR REPLACE testapp_ruled SET id = %s WHERE id = %s", [TWO.hex, ONE.hex]),
}


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("recursive", [False, True], ids=["", "recursive triggers"])
@pytest.mark.parametrize("posted", [True, False], ids=["posted before", "in one go"])
@pytest.mark.parametrize("statement", CONFLICTS.values(), ids=list(CONFLICTS))
def test_statements_with_conflicts(replica, statement, posted, recursive):
    """REPLACE removes rows without any delete trigger; each outcome arrives as it is in the table."""
    a, b = replica("a"), replica("b")
    Ruled.objects.using("a").create(pk=ONE, code="1", amount=1, left=1, right=1)
    Ruled.objects.using("a").create(pk=TWO, code="2", amount=2, left=2, right=2)
    if posted:
        synced(a, b, "testapp.Ruled")
    if recursive:
        a.sql("PRAGMA recursive_triggers = ON")
    a.sql(*statement)
    synced(a, b, "testapp.Ruled")
    entries = a.entries("testapp.Ruled").values()
    assert sum(e.inserted > e.deleted for e in entries) == Ruled.objects.using("a").count()


@pytest.mark.on("sqlite")
def test_replace_that_changed_one_field_takes_no_other_with_it(replica):
    """A REPLACE writes every field, but what it left as it was is no edit: a concurrent one survives."""
    a, b = replica("a"), replica("b")
    Ruled.objects.using("a").create(pk=ONE, code="1", amount=1)
    synced(a, b, "testapp.Ruled")
    Ruled.objects.using("b").update(must="from b")
    a.sql(*insert("INSERT OR REPLACE", ONE, "1", 8))
    meet(a, b, labels=RULED)
    row = Ruled.objects.using("a").get()
    assert (row.amount, row.must) == (8, "from b")
    assert a.raw("testapp.Ruled") == b.raw("testapp.Ruled")


@pytest.mark.on("sqlite")
def test_another_process_without_django_writes(replica):
    """Triggers may call nothing that a connection must register first."""
    a, b = replica("a"), replica("b")
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=10); "
        "c.execute(\"INSERT INTO testapp_coin (code, name, rate) VALUES ('x', 'n', 1), ('y', 'n', 2)\"); "
        "c.execute(\"UPDATE testapp_coin SET rate = 5 WHERE code = 'y'\"); c.commit(); "
        "c.execute('DELETE FROM testapp_coin'); c.rollback()"
    )
    subprocess.run([sys.executable, "-I", "-c", script, str(a.path)], check=True, timeout=30)
    synced(a, b, "testapp.Coin")
    assert set(Coin.objects.using("b").values_list("code", "rate")) == {("x", 1), ("y", 5)}


def test_what_was_rolled_back_never_replicates(replica):
    a, b = replica("a"), replica("b")
    with pytest.raises(ZeroDivisionError), transaction.atomic(using="a"):
        Note.objects.using("a").create(title="whole")
        1 / 0  # noqa: B018
    with transaction.atomic(using="a"):
        Note.objects.using("a").create(title="kept")
        with pytest.raises(ZeroDivisionError), transaction.atomic(using="a"):
            Note.objects.using("a").create(title="savepoint")
            Note.objects.using("a").update(stars=9)
            1 / 0  # noqa: B018
    assert [operation for operation, _ in a.log()] == [Operation.INSERT]
    synced(a, b, "testapp.Note")
    assert list(Note.objects.using("b").values_list("title", "stars")) == [("kept", 0)]


def test_an_update_that_changes_nothing_logs_nothing(replica):
    a = replica("a")
    Note.objects.using("a").create(title="t", stars=1)
    Ruled.objects.using("a").create(code="1")
    a.post()
    Note.objects.using("a").update(title="t", stars=1, body="")
    a.sql("UPDATE testapp_note SET stars = stars + 0, id = id")
    Ruled.objects.using("a").update(left=None)
    a.sql(f"UPDATE {'OR REPLACE ' if a.site.vendor == 'sqlite' else ''}testapp_ruled SET code = code")
    assert a.log() == []


@pytest.mark.on("sqlite")
def test_a_change_that_only_a_careful_comparison_sees(replica):
    """Letter case under NOCASE, trailing spaces, type and not value, NULL and empty."""
    a, b = replica("a"), replica("b")
    Ruled.objects.using("a").create(code="", label="abc", must="x")
    synced(a, b, "testapp.Ruled")
    for change in (
        "label = 'ABC'",
        "label = 'ABC '",
        "code = NULL",
        "code = ''",
        "must = 'x '",
        "must = CAST('x ' AS BLOB)",
    ):
        a.sql(f"UPDATE testapp_ruled SET {change}")
        assert len(a.log()) == 1, change
        synced(a, b, "testapp.Ruled")


def test_only_changed_columns_are_logged(replica):
    a = replica("a")
    Note.objects.using("a").create(title="t", stars=1)
    a.post()
    Note.objects.using("a").update(title="t", stars=2)
    names = a.stream("testapp.Note").table.names
    assert a.log() == [(Operation.UPDATE, 1 << names.index("stars"))]


@pytest.mark.on("sqlite")  # Django itself can't take a percent sign in a name on PostgreSQL.
def test_a_table_of_odd_names(replica):
    a, b = replica("a"), replica("b")
    rows = [OddNames.objects.using("a").create(plain=f"p{i}", order="o", unique_one=f"u{i}") for i in range(3)]
    synced(a, b, "testapp.OddNames")
    OddNames.objects.using("a").filter(pk=rows[0].pk).update(plain="100%s", order="%d")
    rows[1].delete(using="a")
    table = OddNames._meta.db_table
    columns = ", ".join(f'"{f.column}"' for f in OddNames._meta.concrete_fields)
    new = (uuid7().hex, "a", "b", "u2")
    a.outside((f'INSERT OR REPLACE INTO "{table}" ({columns}) VALUES (?, ?, ?, ?)', new))
    synced(a, b, "testapp.OddNames")
    assert OddNames.objects.using("b").count() == 2
    OddNames.objects.using("a").update(order="again")
    synced(a, b, "testapp.OddNames")


@pytest.mark.parametrize("changed", [[0], [61], [62], [123], [124], [129], [0, 61, 62, 129], list(range(130))], ids=str)
def test_a_table_with_more_columns_than_a_bitmap_has_bits(replica, changed):
    a, b = replica("a"), replica("b")
    Wide.objects.using("a").create()
    synced(a, b, "testapp.Wide")
    Wide.objects.using("b").update(**{f"c{i}": -7 for i in range(130) if i not in changed})
    Wide.objects.using("a").update(**{f"c{i}": 5 for i in changed})
    meet(a, b, labels=("testapp.Wide",))
    assert a.raw("testapp.Wide") == b.raw("testapp.Wide")
    row = Wide.objects.using("a").get()
    assert [getattr(row, f"c{i}") for i in range(130)] == [5 if i in changed else -7 for i in range(130)]


def test_a_table_with_nothing_but_a_key(replica):
    a, b = replica("a"), replica("b")
    rows = [KeyOnly.objects.using("a").create() for _ in range(40)]
    synced(a, b, "testapp.KeyOnly")
    rows[0].delete(using="a")
    how = "INSERT OR REPLACE" if a.site.vendor == "sqlite" else "INSERT"
    conflict = "" if a.site.vendor == "sqlite" else " ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id"
    a.sql(f"{how} INTO testapp_keyonly (id) VALUES (%s){conflict}", [rows[1].pk.hex])
    a.sql("UPDATE testapp_keyonly SET id = %s WHERE id = %s", [uuid7().hex, rows[2].pk.hex])
    synced(a, b, "testapp.KeyOnly")
    assert KeyOnly.objects.using("b").count() == 39
    KeyOnly.objects.using("b").create(pk=rows[0].pk)
    meet(a, b, labels=("testapp.KeyOnly",))
    assert KeyOnly.objects.using("a").count() == 40


def test_loaddata_of_new_and_known_rows(replica, tmp_path):
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="known")
    synced(a, b, "testapp.Shelf")
    other = Shelf(pk=uuid7(), name="new")
    objects = [Shelf(pk=shelf.pk, name="renamed"), other, Book(pk=uuid7(), shelf=other, title="t")]
    path = tmp_path / "fixture.json"
    path.write_text(serializers.serialize("json", objects))
    call_command("loaddata", str(path), database="a", verbosity=0)
    meet(a, b)
    assert a.rows() == b.rows()
    assert set(Shelf.objects.using("b").values_list("name", flat=True)) == {"renamed", "new"}


def test_an_application_writes_between_two_batches_of_the_applier(replica):
    a, b = replica("a"), replica("b")
    Note.objects.using("a").bulk_create(Note(title=f"n{i}") for i in range(50))
    b.pull(a, NOTE, batch_size=10, batches=2)
    Note.objects.using("b").filter(title="n3").update(stars=9)
    Note.objects.using("b").filter(title="n4").delete()
    Note.objects.using("a").filter(title="n3").update(body="a")
    Note.objects.using("a").filter(title="n4").update(body="late")
    b.outside("UPDATE testapp_note SET stars = 8 WHERE title = 'n5'")
    meet(a, b)
    assert a.rows() == b.rows()
    row = Note.objects.using("a").get(title="n3")
    assert (row.stars, row.body) == (9, "a")
    assert not Note.objects.using("a").filter(title="n4").exists()
    assert Note.objects.using("a").get(title="n5").stars == 8


def test_the_applier_leaves_no_marker_and_no_echo_after_a_refusal(replica):
    a, b = replica("a"), replica("b")
    Ruled.objects.using("b").create(code="x")
    Ruled.objects.using("a").create(code="x")
    b.pull(a, RULED)
    assert b.sql("SELECT * FROM p2p_replication_applying") == []
    b.post()
    Ruled.objects.using("b").update(amount=4)
    assert len(b.log()) == 1


@pytest.mark.on("sqlite")
def test_text_that_is_no_utf8_stops_no_other_row(replica):
    """SQLite takes any bytes as text; one such row must not end the replication of all others."""
    a, b = replica("a"), replica("b")
    with closing(sqlite3.connect(a.path)) as connection:
        connection.execute("INSERT INTO testapp_coin (code, name, rate) VALUES ('bad', CAST(x'ff41' AS TEXT), 1)")
        connection.commit()
    Coin.objects.using("a").create(code="good")
    b.pull(a, COIN)
    assert b.sql("SELECT code FROM testapp_coin WHERE code = 'good'") == [("good",)]


@pytest.mark.on("sqlite")
def test_a_key_that_is_no_utf8_stops_no_other_row(replica):
    a, b = replica("a"), replica("b")
    with closing(sqlite3.connect(a.path)) as connection:
        connection.execute("INSERT INTO testapp_coin (code, name, rate) VALUES (CAST(x'ff41' AS TEXT), '', 1)")
        connection.commit()
    Coin.objects.using("a").create(code="good")
    b.pull(a, COIN)
    assert b.sql("SELECT code FROM testapp_coin WHERE code = 'good'") == [("good",)]


@pytest.mark.on("sqlite")
def test_an_applications_own_triggers_are_left_alone(replica):
    """Only what we made is ours, whatever else begins like it."""
    from p2p_replication.storage.capture.installation import install

    a = replica("a")
    a.sql("CREATE TRIGGER p2p_audit AFTER INSERT ON testapp_coin BEGIN SELECT 1; END")
    a.sql("CREATE TRIGGER p2p_my_own_audit AFTER INSERT ON django_session BEGIN SELECT 1; END")
    assert not drift("a")
    install("a")
    names = {name for (name,) in a.sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    assert {"p2p_audit", "p2p_my_own_audit"} <= names


def test_flush_makes_a_new_replica_that_sends_nothing(replica):
    a, b = replica("a"), replica("b")
    Note.objects.using("a").bulk_create(Note(title=f"n{i}") for i in range(5))
    meet(a, b)
    call_command("flush", database="a", interactive=False, verbosity=0)
    assert not drift("a")
    a.start()
    a.post()
    assert not LedgerEntry.objects.using("a").exists()
    b.pull(a)
    assert Note.objects.using("b").count() == 5
    a.pull(b)
    assert a.rows() == b.rows()


def test_every_kind_of_field_is_captured(replica):
    a, b = replica("a"), replica("b")
    Sample.objects.using("a").create(text="t", data={"a": [1, None]}, blob=b"\x00\xff", ref=uuid7())
    synced(a, b, "testapp.Sample")
    sample = Sample.objects.using("a").get()
    sample.data["a"].append("é")
    sample.save()
    synced(a, b, "testapp.Sample")
    assert Sample.objects.using("b").get().data == {"a": [1, None, "é"]}
