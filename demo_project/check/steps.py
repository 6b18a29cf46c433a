"""The steps after the first sync: each kind of write on one side, and what the other side has to show.

A step returns when the other side shows it, and raises StepFailed otherwise.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence

from demo_project.check.bench import Bench
from demo_project.check.disagreements import clash, conflict

Step = Callable[[Bench], None]
#: How many rows the steps that write many of them write.
MANY = 200
FEW = 20
OBSERVER = "check"


def counting(pks: Sequence[str], condition: str = "1") -> str:
    """A query for how many of these rows are there and meet the condition. Keys are hex digits."""
    keys = ", ".join(f"'{pk}'" for pk in pks)
    return f"SELECT count(*) FROM survey_observation WHERE id IN ({keys}) AND {condition}"


def save(bench: Bench) -> None:
    """A new row, then a change of it, by ``save()``."""
    pk = bench.on_a("save", species="save", observer=OBSERVER)
    bench.expect("a row saved on A", bench.b, counting([pk]), [1])
    bench.on_a("edit", pks=[pk], changes={"note": "changed", "count": 7})
    bench.expect("a saved change", bench.b, counting([pk], "note = 'changed' AND count = 7"), [1])


def bulk_create(bench: Bench) -> None:
    pks = bench.on_a("bulk_create", species=[f"bulk-{number}" for number in range(MANY)], observer=OBSERVER)
    bench.expect(f"{MANY} rows of bulk_create()", bench.b, counting(pks), [MANY])


def queryset_update(bench: Bench) -> None:
    pks = bench.on_a("bulk_create", species=[f"update-{number}" for number in range(FEW)], observer=OBSERVER)
    bench.expect("the rows to update", bench.b, counting(pks), [FEW])
    bench.on_a("queryset_update", pks=pks, changes={"note": "updated", "count": 3})
    bench.expect("QuerySet.update()", bench.b, counting(pks, "note = 'updated' AND count = 3"), [FEW])


def raw_sql_update(bench: Bench) -> None:
    """An update by a program that knows nothing of Django: SQLite's own driver."""
    pks = bench.on_a("bulk_create", species=[f"raw-{number}" for number in range(FEW)], observer=OBSERVER)
    bench.expect("the rows to update", bench.b, counting(pks), [FEW])
    with contextlib.closing(sqlite3.connect(bench.a.database, timeout=20, isolation_level=None)) as connection:
        keys = ", ".join("?" * len(pks))
        connection.execute(f"UPDATE survey_observation SET note = 'raw', count = count + 1 WHERE id IN ({keys})", pks)
    bench.expect("a raw SQL update", bench.b, counting(pks, "note = 'raw' AND count = 2"), [FEW])


def delete(bench: Bench) -> None:
    pks = bench.on_a("bulk_create", species=[f"delete-{number}" for number in range(FEW)], observer=OBSERVER)
    bench.expect("the rows to delete", bench.b, counting(pks), [FEW])
    bench.on_a("delete", pks=pks)
    bench.expect("a delete", bench.b, counting(pks), [0])


def tags(bench: Bench) -> None:
    """A tag crosses, B takes it away again; then both sides add one to the same observation, and both stay."""
    pk = bench.on_a("save", species="tagged", observer=OBSERVER)
    query = (
        "SELECT coalesce(group_concat(name), '') FROM (SELECT t.name FROM survey_observation_tags l "
        "JOIN survey_tag t ON t.id = l.tag_id WHERE l.observation_id = ? ORDER BY t.name)"
    )
    bench.on_a("tag", pk=pk, add=["check-a", "check-b"])
    bench.expect("the tags of an observation", bench.b, query, ["check-a,check-b"], [pk])
    bench.operators["b"].call("tag", pk=pk, remove=["check-a"])
    bench.expect("that B took a tag away", bench.a, query, ["check-b"], [pk])
    bench.operators["a"].send("tag", pk=pk, add=["check-c"])
    bench.operators["b"].send("tag", pk=pk, add=["check-d"])
    for operator in bench.operators.values():
        operator.answer()
    bench.expect_both("the tags of both sides", query, ["check-b,check-c,check-d"], [pk])


def concurrent_field_edits(bench: Bench) -> None:
    """Both sides change another field of the same rows at the same moment; both changes survive."""
    pks = bench.on_a("bulk_create", species=[f"concurrent-{number}" for number in range(FEW)], observer=OBSERVER)
    bench.expect("the rows to edit", bench.b, counting(pks), [FEW])
    moment = time.time_ns() + 300_000_000
    bench.operators["a"].send("edit", pks=pks, changes={"note": "by A"}, at_ns=moment)
    bench.operators["b"].send("edit", pks=pks, changes={"count": 42}, at_ns=moment)
    for operator in bench.operators.values():
        operator.answer()
    bench.expect_both("both edits", counting(pks, "note = 'by A' AND count = 42"), [FEW])


def offline_edits(bench: Bench) -> None:
    """B's worker is away while both sides add, change and delete; then it comes back."""
    shared = bench.on_a("bulk_create", species=[f"offline-{number}" for number in range(FEW)], observer=OBSERVER)
    bench.expect("the rows to edit", bench.b, counting(shared), [FEW])
    bench.compare()
    bench.stop_worker(bench.b)
    edited, deleted_by_a, deleted_by_b = shared[:10], shared[10:15], shared[15:]
    a, b = bench.operators["a"], bench.operators["b"]
    a.call("edit", pks=edited, changes={"note": "by A, alone"})
    b.call("edit", pks=edited, changes={"count": 99})
    a.call("delete", pks=deleted_by_a)
    b.call("delete", pks=deleted_by_b)
    added = a.call("bulk_create", species=[f"offline-a-{number}" for number in range(FEW)], observer=OBSERVER)
    added += b.call("bulk_create", species=[f"offline-b-{number}" for number in range(FEW)], observer=OBSERVER)
    bench.start_worker(bench.b)
    bench.expect_both("the edits of both sides", counting(edited, "note = 'by A, alone' AND count = 99"), [10])
    bench.expect_both("the deletes of both sides", counting(deleted_by_a + deleted_by_b), [0])
    bench.expect_both("the rows of both sides", counting(added), [2 * FEW])


STEPS: list[Step] = [
    save,
    bulk_create,
    queryset_update,
    raw_sql_update,
    delete,
    tags,
    concurrent_field_edits,
    offline_edits,
    conflict,
    clash,
]
