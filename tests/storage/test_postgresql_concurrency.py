"""Posting and reading while transactions of the application are open, commit, and roll back beside them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connections

from p2p_replication.storage.posting import post
from tests.seeds import seeded
from tests.storage.conftest import meet
from tests.storage.test_posting import SmallBudget
from tests.testapp.models import Coin, Note

pytestmark = pytest.mark.on("postgresql")

COINS, NOTES = ("testapp.Coin",), ("testapp.Note",)
INSERT = "INSERT INTO testapp_coin (code, name, rate) VALUES (%s, %s, 0)"
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


def names(replica: Any) -> dict[str, str]:
    return dict(Coin.objects.using(replica.alias).values_list("code", "name"))


@pytest.mark.parametrize("level", LEVELS)
def test_who_wrote_first_and_commits_last_loses_nothing(replica, level):
    """Its log entries have the lower numbers, and appear when higher ones are posted and gone long since."""
    a, b = replica("a"), replica("b")
    with closing(a.site.connect()) as slow, closing(a.site.connect()) as quick:
        slow.execute(f"BEGIN ISOLATION LEVEL {level}")
        slow.execute(INSERT, ["slow", "1"])
        for i in range(5):
            quick.execute(INSERT, [f"quick{i}", "1"])
            a.post()
            b.pull(a, COINS)
        assert set(names(b)) == {f"quick{i}" for i in range(5)}
        assert a.log() == []
        slow.execute("COMMIT")
    assert post(a.database).entries == 1
    b.pull(a, COINS)
    assert names(b)["slow"] == "1"
    assert a.rows() == b.rows()


def test_one_transaction_with_more_rows_than_a_slice(replica):
    a, b = replica("a"), replica("b")
    a.database.budget = SmallBudget(100)
    with closing(a.site.connect()) as connection:
        connection.execute("BEGIN")
        connection.execute(
            "INSERT INTO testapp_coin (code, name, rate) SELECT 'c' || i, 'new', 0 FROM generate_series(1, 1000) i"
        )
        connection.execute("UPDATE testapp_coin SET rate = 1")
        assert a.post().entries == 0
        Coin.objects.using("a").create(code="between")
        assert a.post().entries == 1
        connection.execute("COMMIT")
    assert a.post().entries == 2000
    b.pull(a, COINS)
    assert a.rows() == b.rows()
    assert Coin.objects.using("b").filter(rate=1).count() == 1000


class Writer:
    """A connection of the application's that is in the middle of a transaction most of the time."""

    def __init__(self, connection: Any, chance: random.Random) -> None:
        self.connection = connection
        self.chance = chance
        self.open = False
        connection.execute("SET lock_timeout = '1ms'")

    def step(self) -> None:
        chance = self.chance
        try:
            if not self.open:
                self.connection.execute(f"BEGIN ISOLATION LEVEL {chance.choice(LEVELS)}")
                self.open = True
            if chance.random() < 0.25:
                self.end("COMMIT" if chance.random() < 0.8 else "ROLLBACK")
                return
            self.connection.execute(*self.statement())
        except psycopg.Error:  # A lock, a duplicate, a conflict: an application begins anew.
            self.end("ROLLBACK")

    def statement(self) -> tuple[str, list[Any]]:
        chance = self.chance
        code, value = f"c{chance.randrange(6)}", chance.randrange(1000)
        return chance.choice([
            ("INSERT INTO testapp_coin (code, name, rate) VALUES (%s, %s, 0) ON CONFLICT DO NOTHING", [code, value]),
            ("UPDATE testapp_coin SET name = %s WHERE code = %s", [str(value), code]),
            ("UPDATE testapp_coin SET rate = %s WHERE code >= %s", [value, code]),
            ("UPDATE testapp_coin SET code = code || 'x', name = %s WHERE code = %s", [str(value), code]),
            ("DELETE FROM testapp_coin WHERE code = %s", [code]),
            ("SELECT 1 FROM testapp_coin WHERE code = %s FOR UPDATE", [code]),
        ])  # fmt: skip

    def end(self, how: str) -> None:
        try:
            self.connection.execute(how)
        except psycopg.Error:
            self.connection.execute("ROLLBACK")
        self.open = False


@seeded(2)
def test_transactions_in_any_order(replica, seed):
    """Several writers on both replicas, posting, pulling and retrying between any two of their statements."""
    chance = random.Random(seed)
    a, b = replica("a"), replica("b")
    with ExitStack() as stack:
        writers = [Writer(stack.enter_context(closing(one.site.connect())), chance) for one in (a, b) for _ in range(2)]
        for _ in range(120):
            chance.choice(writers).step()
            if chance.random() < 0.3:
                chance.choice([a, b]).post()
            if chance.random() < 0.06:
                one, other = chance.sample([a, b], 2)
                one.pull(other, COINS)
                one.retry_parked()
        for writer in writers:
            writer.end("COMMIT")
    meet(a, b, labels=COINS, rounds=3)
    assert a.rows() == b.rows()
    assert a.parked() == b.parked() == 0
    assert a.log() == b.log() == []


@contextmanager
def at_number(alias: str, number: int, act: Callable[[], Any]) -> Iterator[list[str]]:
    """Do something before the ``number``-th statement of a connection; tells whether it came so far."""
    count = 0
    reached: list[str] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            reached.append(sql)
            act()
        return execute(sql, params, many, context)

    with connections[alias].execute_wrapper(wrapper):
        yield reached


WRITES: dict[str, tuple[str, ...]] = {
    "update": ("UPDATE testapp_coin SET name = 'second' WHERE code = 'x'",),
    "delete": ("DELETE FROM testapp_coin WHERE code = 'x'",),
    "new life": (
        "DELETE FROM testapp_coin WHERE code = 'x'",
        "INSERT INTO testapp_coin (code, name, rate) VALUES ('x', 'second', 9)",
    ),
    "new key": ("UPDATE testapp_coin SET code = 'z', name = 'second' WHERE code = 'x'",),
}


@pytest.mark.parametrize("first", ["insert", "update"])
@pytest.mark.parametrize("second", list(WRITES))
def test_a_commit_between_any_two_statements_of_posting_and_reading(replica, first, second):
    """Posting reads with several statements, so a version may be posted with a content that is newer than it: nobody
    sees that, as the newer write's log entry is pending then.
    """
    a, b = replica("a"), replica("b")
    number = 0
    reached = ["first"]
    while reached:
        number += 1
        Coin.objects.using("a").all().delete()
        if first == "update":
            Coin.objects.using("a").create(code="x", name="zeroth", rate=0)
        meet(a, b, labels=COINS, rounds=1)
        seen = [a.raw("testapp.Coin")]
        if first == "update":
            Coin.objects.using("a").filter(code="x").update(rate=1)
        else:
            Coin.objects.using("a").create(code="x", name="zeroth", rate=1)
        seen.append(a.raw("testapp.Coin"))
        with at_number("a", number, lambda: a.outside(*WRITES[second])) as reached:
            b.pull(a, COINS)
        seen.append(a.raw("testapp.Coin"))
        if second != "new key":  # which is a delete and an insert, of two rows
            assert b.raw("testapp.Coin") in seen
        meet(a, b, labels=COINS, rounds=1)
        assert a.raw("testapp.Coin") == b.raw("testapp.Coin"), f"at statement {number}: {reached}"
        assert b.parked() == 0
    assert number > 10


def test_the_work_of_a_trigger_grows_with_its_rows_and_not_with_their_square(replica):
    """Its plan is made at a session's first update, which often has one row, and kept."""
    a = replica("a")
    rows = 1000
    Note.objects.using("a").bulk_create(Note(title=str(i)) for i in range(rows))
    with closing(a.site.connect()) as connection:
        body, settings = connection.execute(
            "SELECT p.prosrc, p.proconfig FROM pg_proc p JOIN pg_trigger t ON t.tgfoid = p.oid "
            "WHERE t.tgrelid = 'testapp_note'::regclass AND t.tgname LIKE 'p2p_upd%'"
        ).fetchone()
        for setting in settings:
            name, value = setting.split("=")
            if name != "search_path":  # The tables below are temporary ones, which do without.
                connection.execute(f"SET {name} = {value}")
        for table in ("old_rows", "new_rows"):
            connection.execute(f"CREATE TEMP TABLE {table} AS SELECT * FROM testapp_note LIMIT 1")
            connection.execute(f"ANALYZE {table}")
        statement = body[body.index("INSERT INTO") : body.index("IF FOUND")].replace(", wall FROM", ", 0 FROM")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE captured AS {statement}")
        connection.execute("EXECUTE captured")
        for table in ("old_rows", "new_rows"):
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} SELECT * FROM testapp_note")
        connection.execute("UPDATE new_rows SET stars = stars + 1")
        (plan,) = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE captured").fetchone()
    assert work(plan[0]["Plan"]) < 40 * rows


def work(node: dict[str, Any]) -> float:
    """Return how many rows a plan's nodes have looked at in all."""
    own = node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Join Filter", 0))
    return own + sum(work(part) for part in node.get("Plans", []))
