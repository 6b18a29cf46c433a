"""The steps in which the nodes write without knowing of each other: seen, and mended, in the admin's plain pages."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator

from demo_project.check.bench import Bench
from demo_project.check.talk import StepFailed
from demo_project.check.visitor import Visitor
from demo_project.launcher.node import Node, prepared
from demo_project.launcher.readings import connect

ADMIN = "/admin/p2p_replication"


def conflict(bench: Bench) -> None:
    """Both nodes change one field while B is off the net; the later wins, and what lost is restored in the admin."""
    pk = bench.on_a("save", species="conflict", observer="check")
    note = "SELECT note FROM survey_observation WHERE id = ?"
    bench.expect("the row to edit", bench.b, note, [""], [pk])
    bench.stop_worker(bench.b)
    bench.on_a("edit", pks=[pk], changes={"note": "by A"})
    bench.operators["b"].call("edit", pks=[pk], changes={"note": "by B, later"})
    bench.start_worker(bench.b)
    bench.expect_both("the later note", note, ["by B, later"], [pk])
    node, number = _conflict_of(bench, pk)
    with signed_in(bench, node) as visitor:
        page = read(visitor, f"{ADMIN}/conflict/")
        if "note = by A" not in page:
            raise StepFailed(f"{node.name}'s page of conflicts does not show the note that lost")
        send(visitor, f"{ADMIN}/conflict/", {"action": "restore_selected", "_selected_action": str(number)})
    bench.expect_both("the restored note", note, ["by A"], [pk])


def clash(bench: Bench) -> None:
    """Both nodes make the same tag while B is off the net; the older stays, and the younger comes with a new name."""
    bench.stop_worker(bench.b)
    pk = bench.on_a("save", species="clash", observer="check")
    bench.on_a("tag", pk=pk, add=["clash"])
    bench.operators["b"].call("make_tag", name="clash")
    bench.start_worker(bench.b)
    bench.expect_both("one tag of the two", "SELECT count(*) FROM survey_tag WHERE name = 'clash'", [1])
    waiting = "SELECT count(*) FROM p2p_replication_parking WHERE reason = 'unique value taken'"
    bench.expect_both("that the other waits", waiting, [1])
    with signed_in(bench, bench.b) as visitor:
        page = read(visitor, f"{ADMIN}/parking/")
        if "unique value taken" not in page or "is older" not in page:
            raise StepFailed("Node B's page of parked rows does not say why the tag waits")
        (tag,) = re.findall(
            r'href="(/admin/survey/tag/[^"]+/change/)[^"]*">clash<', read(visitor, "/admin/survey/tag/")
        )
        send(visitor, tag, {"name": "clash, the older one"})
    names = "SELECT group_concat(name, '; ') FROM (SELECT name FROM survey_tag WHERE name LIKE 'clash%' ORDER BY name)"
    bench.expect_both("both tags", names, ["clash; clash, the older one"])
    bench.expect_both("that nothing waits", waiting, [0])


def _conflict_of(bench: Bench, pk: str) -> tuple[Node, int]:
    """Return the node that noticed the conflict of a row, and its number there."""
    for node in (bench.a, bench.b):
        with contextlib.closing(connect(node.database)) as connection:
            query = "SELECT id FROM p2p_replication_conflict WHERE key = ? AND restored_at IS NULL"
            found = connection.execute(query, [pk]).fetchall()
        if found:
            return node, int(found[0][0])
    raise StepFailed("neither node has the note that lost in its conflict log")


@contextlib.contextmanager
def signed_in(bench: Bench, node: Node) -> Iterator[Visitor]:
    """A visitor of a node's pages."""
    visitor = Visitor(node)
    try:
        status, text = visitor.sign_in(prepared(node.prepare(bench.children, "--link-only"))["link"])
        if status != 302:
            raise StepFailed(f"{node.name}: the sign-in link answered {status}: {text[:200]}")
        yield visitor
    finally:
        visitor.close()


def read(visitor: Visitor, path: str) -> str:
    status, text = visitor.get(path)
    if status != 200:
        raise StepFailed(f"{visitor.node.name}: {path} answered {status}: {text[:200]}")
    return html.unescape(text)


def send(visitor: Visitor, path: str, form: dict[str, str]) -> None:
    read(visitor, path)
    status, text = visitor.post(path, form)
    if status != 302:
        raise StepFailed(f"{visitor.node.name}: {path} answered {status} to {form}: {text[:200]}")
