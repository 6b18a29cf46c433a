"""``manage.py p2p verify``: does everybody hold the same rows?"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, ClassVar

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS
from django.utils.dateparse import parse_datetime

from p2p_replication.management.captured import refuse_unready_database
from p2p_replication.management.layout import iso, replica_name, when, wrapped
from p2p_replication.management.subcommands import Subcommand
from p2p_replication.models.pool import Pool
from p2p_replication.models.worker_request import RequestKind, RequestState, WorkerRequest
from p2p_replication.protocol.verification import Outcome


class VerifySubcommand(Subcommand):
    help: ClassVar[str] = "Compare the content of pools with their connected peers; exit 1 unless all are equal."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("--pool", default="", metavar="TOPIC", help="Only this pool (default: all).")
        parser.add_argument("--timeout", type=float, default=30.0, help="Seconds for each pool (default: 30).")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Which database (default: default).")
        parser.add_argument("--json", action="store_true", help="Print a JSON object.")

    def handle(self, **options: Any) -> None:
        database: str = options["database"]
        refuse_unready_database(database)
        found = [verified(pool, options["timeout"], database) for pool in _pools(options["pool"], database)]
        if options["json"]:
            self.stdout.write(json.dumps({"pools": found}))
        else:
            for pool in found:
                for line in described(pool):
                    self.stdout.write(line)
        failed = [pool["pool"] for pool in found if not pool["equal"]]
        if failed:
            raise CommandError(f"Not found equal: {', '.join(failed)}.")


def _pools(topic: str, database: str) -> list[Pool]:
    pools = Pool.objects.using(database).active().order_by("account", "topic")
    found = list(pools.filter(topic=topic) if topic else pools)
    if not found:
        there = ", ".join(map(str, pools)) or "none"
        raise CommandError(f"There is no pool {topic!r}; there is: {there}." if topic else "No pool is declared.")
    return found


def verified(pool: Pool, timeout: float, database: str) -> dict[str, Any]:
    """Let the worker compare a pool; return what it has found, for ``--json``."""
    answer: dict[str, Any] = {"pool": str(pool), "equal": False, "problem": "", "models": [], "not_connected": []}
    if not pool.has_live_worker:
        answer["problem"] = "no live worker serves it. Start one: manage.py runp2psync"
        return answer
    request = WorkerRequest.make(RequestKind.VERIFY, pool, timeout, database)
    if not request.wait(timeout):
        answer["problem"] = f"the worker has not answered within {timeout:g} s: allow more with --timeout"
        return answer
    if request.state == RequestState.FAILED:
        answer["problem"] = f"the worker failed: {request.results.get('error', '')}"
        return answer
    answer["models"] = request.results["models"]
    asked = {model["replica"] for model in answer["models"]}
    answer["not_connected"] = [
        {"replica": peer.replica_id, "name": peer.name, "since": iso(peer.last_seen)}
        for peer in pool.peers.order_by("name", "replica_id")
        if peer.replica_id not in asked
    ]
    if not asked:
        answer["problem"] = "no peer is connected"
    outcomes = {model["outcome"] for model in answer["models"]}
    # What a peer does not replicate says nothing against the rest.
    answer["equal"] = outcomes - {Outcome.LEFT_OUT.value} == {Outcome.EQUAL.value}
    return answer


def described(pool: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that say how a pool stands."""
    yield f"Pool {pool['pool']}"
    if pool["problem"]:
        yield from wrapped(pool["problem"], "  ")
    last = None
    for model in pool["models"]:
        if model["replica"] != last:
            last = model["replica"]
            yield f"  {replica_name(last, model['name'])}"
        yield from _model(model)
    for peer in pool["not_connected"]:
        name = replica_name(peer["replica"], peer["name"])
        since = f", last seen {when(parse_datetime(peer['since']))}" if peer["since"] else ""
        yield from wrapped(f"not connected{since}", f"  {name}  ")


def _model(model: dict[str, Any]) -> Iterator[str]:
    text = f": {model['text']}" if model["text"] else ""
    yield from wrapped(f"{model['outcome']}{text}", f"    {model['model']}  ")
    for kind, keys in (
        ("only here", model["only_here"]),
        ("only there", model["only_there"]),
        ("different", model["different"]),
    ):
        for key in keys:
            yield from wrapped(f"{kind}: {key}", "      ")
    if model["more"]:
        yield "      and more"
    if model["only_here"] or model["only_there"] or model["different"]:
        yield from wrapped(f"see why, on both sides: manage.py p2p explain {model['model']} KEY", "      ")
