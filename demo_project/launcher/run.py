"""The demo for a person: two nodes, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from demo_project.launcher.errors import DemoError
from demo_project.launcher.folder import Folder
from demo_project.launcher.node import Node, prepared
from demo_project.launcher.outages import Outages
from demo_project.launcher.ports import free_ports, require_free
from demo_project.launcher.processes import Children
from demo_project.launcher.screen import COLOURS, Screen


def run_demo(folder: Path, port: int, *, reset: bool, places: int | None) -> None:
    """Start the nodes and show them until StopRequested or a failure ends it; all processes are stopped then.

    Args:
        port: node A's port, node B has the next one; 0 takes any two free ones.
        places: only that many cities.
    """
    console = Console()
    ports = (port, port + 1)
    if port == 0:
        first, second = free_ports(2)
        ports = (first, second)
    else:
        require_free(*ports)
    home = Folder(folder)
    home.claim(reset=reset)
    nodes = home.nodes(ports)
    children = Children()
    try:
        links = start(console, nodes, children)
        outages = Outages(nodes, children)
        nodes[0].manage(children, "load_cities", *(["--places", str(places)] if places else []))
        print_links(console, nodes, links)
        console.print(f"Logs and databases: {folder}\n", highlight=False, soft_wrap=True)
        Screen(console, nodes, outages.look).run()
    finally:
        console.print("Stopping both nodes ...", highlight=False)
        for child in children.stop():
            console.print(f"{child.name} had to be killed. Its log: {child.log}", highlight=False)


def start(console: Console, nodes: tuple[Node, Node], children: Children) -> list[str]:
    """Prepare the nodes and start their pages; returns a sign-in link for each. Raises DemoError."""
    console.print("Preparing the databases ...", highlight=False)
    links = prepare(nodes, children)
    console.print("Starting two web processes and two workers ...", highlight=False)
    webs = [node.start_web(children) for node in nodes]
    for node, web in zip(nodes, webs, strict=True):
        node.wait_until_it_answers(web)
    return links


def prepare(nodes: tuple[Node, Node], children: Children) -> list[str]:
    """Migrate both databases and give both workers a device token of node A, which runs the signaling server.

    Returns each node's sign-in link.
    """
    a, b = nodes
    preparing = [a.prepare(children, "--tags", "--device", a.device, "--device", b.device), b.prepare(children)]
    outcomes = [prepared(child) for child in preparing]
    for node in nodes:
        node.token = outcomes[0]["tokens"][node.device]
    return [node.url + outcome["link"] for node, outcome in zip(nodes, outcomes, strict=True)]


def print_links(console: Console, nodes: tuple[Node, Node], links: list[str]) -> None:
    console.print("\nOpen both pages side by side (each link signs you in, once):\n", highlight=False)
    for node, link in zip(nodes, links, strict=True):
        console.print(f"  [bold {COLOURS[node.key]}]{node.name}[/]  {link}", highlight=False, soft_wrap=True)
    console.print()


def renew_links(folder: Path) -> None:
    """Print new sign-in links of the demo that runs in the folder. Raises DemoError if none does."""
    console = Console()
    home = Folder(folder)
    ports = home.read_state().get("ports")
    if not ports or not home.is_claimed_by_another:
        raise DemoError(f"No demo runs in {folder}. Start one: make demo")
    nodes = home.nodes((ports[0], ports[1]))
    children = Children()
    try:
        preparing = [node.prepare(children, "--link-only") for node in nodes]
        links = [node.url + prepared(child)["link"] for node, child in zip(nodes, preparing, strict=True)]
    finally:
        children.stop()
    print_links(console, nodes, links)
