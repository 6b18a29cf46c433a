"""The demo's pages, served by its own Daphne."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import uuid

import pytest
import websockets

from demo_project.launcher.node import Node
from demo_project.launcher.outages import Outages
from demo_project.launcher.processes import Children
from tests.demo.conftest import PLACES, load_cities
from tests.demo.visitor import Visitor


@pytest.fixture
def visitor(node: Node, link: str) -> Visitor:
    """Signed in on node A."""
    visitor = Visitor(node)
    assert visitor.get(link).status == 302
    return visitor


def execute(node: Node, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    """Run SQL from another process than the web process."""
    with contextlib.closing(sqlite3.connect(node.database, timeout=20, isolation_level=None)) as connection:
        return connection.execute(sql, parameters).fetchall()


def largest_place(node: Node) -> str:
    ((pk,),) = execute(node, "SELECT id FROM survey_place ORDER BY population DESC LIMIT 1")
    return str(uuid.UUID(str(pk)))


def add_observation(visitor: Visitor, species: str) -> str:
    """Add an observation by the form on the largest place's page; returns the path of its edit page."""
    place = f"/places/{largest_place(visitor.node)}/"
    page = visitor.get(place)
    form = {**page.form(), "species": species, "count": "2", "note": "first"}
    assert visitor.post(place + "add/", form).status == 302
    ((pk,),) = execute(visitor.node, "SELECT id FROM survey_observation WHERE species = ?", species)
    return f"/observations/{uuid.UUID(str(pk))}/"


def test_a_sign_in_link_works_once(node: Node, link: str) -> None:
    first, second = Visitor(node), Visitor(node)
    assert first.get("/").location.startswith("/enter/")
    assert first.get(link).location == "/"
    assert first.get("/").status == 200
    # Whoever is signed in already just goes on.
    assert first.get(link).location == "/"
    used = second.get(link)
    assert used.status == 403 and "used already" in used.text
    assert second.get("/").status == 302


def test_a_forged_link_signs_nobody_in(node: Node, link: str) -> None:
    visitor = Visitor(node)
    assert visitor.get(link[:-1] + ("0" if link[-1] != "0" else "1")).status == 403
    assert visitor.get("/enter/?ticket=%00").status == 403
    assert visitor.get("/").status == 302


def test_pages_keep_to_a_strict_content_security_policy(visitor: Visitor) -> None:
    edit = add_observation(visitor, "Strict policy")
    for path in ["/", f"/places/{largest_place(visitor.node)}/", edit, edit + "delete/", "/admin/"]:
        page = visitor.get(path)
        assert page.status == 200, path
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", page.text), path


def test_static_files_are_served(visitor: Visitor) -> None:
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', visitor.get("/").text):
        assert visitor.get(path).status == 200, path


def test_the_header_says_which_node_it_is_and_that_no_worker_runs(visitor: Visitor) -> None:
    page = visitor.get("/").text
    assert "Node A" in page and "no worker is running" in page
    assert f"http://127.0.0.1:{visitor.node.other_port}/" in page


def test_places_are_searched_and_paged(visitor: Visitor) -> None:
    page = visitor.get("/")
    assert f"{PLACES} places" in page.text and "Page 1 of 2" in page.text
    ((name,),) = execute(visitor.node, "SELECT name FROM survey_place ORDER BY population DESC LIMIT 1")
    found = visitor.get(f"/?q={str(name)[:4].lower()}")
    assert str(name) in found.text
    assert "0 places" in visitor.get("/?q=no+such+place").text


def test_what_does_not_exist_is_a_page_that_says_so(visitor: Visitor) -> None:
    missing = visitor.get(f"/observations/{uuid.uuid4()}/")
    assert missing.status == 404 and "not there" in missing.text


def test_a_stale_form_keeps_what_others_changed_meanwhile(visitor: Visitor) -> None:
    """The person changes the count; the note, which came from elsewhere after the form was opened, stays."""
    edit = add_observation(visitor, "Stale form")
    form = visitor.get(edit).form()
    pk = uuid.UUID(edit.split("/")[2]).hex
    execute(visitor.node, "UPDATE survey_observation SET note = 'from elsewhere' WHERE id = ?", pk)
    assert visitor.post(edit, {**form, "count": "5"}).status == 302
    assert execute(visitor.node, "SELECT count, note, species FROM survey_observation WHERE id = ?", pk) == [
        (5, "from elsewhere", "Stale form")
    ]


def test_a_wrong_form_comes_back_with_its_errors(visitor: Visitor) -> None:
    edit = add_observation(visitor, "Wrong form")
    page = visitor.post(edit, {**visitor.get(edit).form(), "count": "-1", "species": ""})
    assert page.status == 200 and page.text.count("errorlist") == 2


def test_an_observation_is_deleted_by_post_only(visitor: Visitor) -> None:
    edit = add_observation(visitor, "Deleted")
    page = visitor.get(edit + "delete/")
    assert execute(visitor.node, "SELECT count(*) FROM survey_observation WHERE species = 'Deleted'") == [(1,)]
    assert visitor.post(edit + "delete/", page.form()).status == 302
    assert execute(visitor.node, "SELECT count(*) FROM survey_observation WHERE species = 'Deleted'") == [(0,)]


async def test_an_open_page_is_told_of_commits_by_other_processes(visitor: Visitor) -> None:
    node = visitor.node
    pk = (await asyncio.to_thread(add_observation, visitor, "Told")).split("/")[2].replace("-", "")
    url = f"ws://127.0.0.1:{node.port}/live/"
    headers = {"Cookie": visitor.cookie_header}
    async with websockets.connect(url, origin=node.url, additional_headers=headers) as socket:  # type: ignore[arg-type]
        # What may have happened while the page was on its way is told at once, and then nothing at rest.
        assert await asyncio.wait_for(socket.recv(), 10) == "changed"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.7)
        await asyncio.to_thread(execute, node, "UPDATE survey_observation SET count = 9 WHERE id = ?", pk)
        assert await asyncio.wait_for(socket.recv(), 10) == "changed"


async def test_an_open_page_needs_a_signed_in_visitor_of_the_same_site(visitor: Visitor) -> None:
    url = f"ws://127.0.0.1:{visitor.node.port}/live/"
    async with websockets.connect(url, origin=visitor.node.url) as socket:  # type: ignore[arg-type]
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4401
    headers = {"Cookie": visitor.cookie_header}
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(url, origin="http://elsewhere.example", additional_headers=headers)  # type: ignore[arg-type]


def test_cities_are_loaded_once(nodes: tuple[Node, Node], children: Children) -> None:
    log = load_cities(nodes[0], children, "--places", str(PLACES))
    assert f"0 cities loaded in 0.0 s, {PLACES} were there before." in log
    assert execute(nodes[0], "SELECT count(*) FROM survey_place") == [(PLACES,)]


def test_a_node_goes_off_the_net_and_comes_back(visitor: Visitor, node: Node) -> None:
    page = visitor.get("/")
    assert "Go offline" in page.text
    assert visitor.post("/outage/", page.form()).location == "/"
    assert node.outage_file.exists()
    page = visitor.get("/")
    assert "off the net" in page.text and "Go online" in page.text
    assert visitor.post("/outage/", page.form()).location == "/"
    assert not node.outage_file.exists()
    assert visitor.get("/outage/").status == 405


def test_workers_stop_and_start_as_the_pages_say(nodes: tuple[Node, Node], children: Children) -> None:
    a, b = nodes
    b.outage_file.touch()  # Left by a demo that was stopped meanwhile.
    outages = Outages(nodes, children)
    workers = [child for child in children if child.name.endswith("worker")][-2:]
    assert [child.is_running for child in workers] == [True, True]
    a.outage_file.touch()
    outages.look()
    assert [child.is_running for child in workers] == [False, True]
    a.outage_file.unlink()
    outages.look()
    again = list(children)[-1]
    assert again.name == "Node A: worker" and again not in workers and again.is_running
    for child in (workers[1], again):
        child.stop()
