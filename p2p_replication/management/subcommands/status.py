"""``manage.py p2p status``: how replication stands, on one screen."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, ClassVar

from django.core.management.base import CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS

from p2p_replication.management.captured import refuse_unready_database
from p2p_replication.management.layout import table, when, wrapped
from p2p_replication.management.replica_status import PeerStatus, PoolStatus, ReplicaStatus, replica_status
from p2p_replication.management.subcommands import Subcommand


class StatusSubcommand(Subcommand):
    help: ClassVar[str] = "Show this replica, its pools and peers, its models and recent errors."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="Exit with 1 if anything needs attention.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Which database (default: default).")
        parser.add_argument("--json", action="store_true", help="Print a JSON object.")

    def handle(self, **options: Any) -> None:
        database: str = options["database"]
        refuse_unready_database(database)
        status = replica_status(database)
        if options["json"]:
            self.stdout.write(json.dumps(dataclasses.asdict(status), cls=DjangoJSONEncoder))
        else:
            for line in described(status):
                self.stdout.write(line)
        if options["check"] and status.attention:
            raise CommandError(f"Things that need attention: {len(status.attention)}.")


def described(status: ReplicaStatus) -> Iterator[str]:
    """Yield the lines that say it all."""
    identity = status.replica or "none yet: the first worker makes it"
    yield f"Replica {status.name}, id {identity}, database {status.database}"
    for pool in status.pools:
        yield ""
        yield from _pool(pool)
    if not status.pools:
        yield "No pool is declared: see sync_p2p()."
    yield ""
    yield "Models"
    columns = ("model", "rows", "ledger", "deleted", "parked", "hidden", "waiting", "conflicts", "pools")
    shown = [m for m in status.models if m.pools or m.present or m.parked or m.waiting or m.conflicts or m.capture]
    rows = [
        (m.model, m.table_rows, m.present, m.deleted, m.parked, m.hidden, m.waiting, m.conflicts, ", ".join(m.pools))
        for m in shown
    ]
    yield from table(columns, rows)
    unused = [m.model for m in status.models if m not in shown]
    if unused:
        yield from wrapped(", ".join(unused), "  in no pool: ")
    yield ""
    if not status.attention:
        yield "Nothing needs attention."
        return
    yield "Needs attention"
    for text in status.attention:
        yield from wrapped(text, "  - ")


def _pool(pool: PoolStatus) -> Iterator[str]:
    if pool.cancelled:
        yield f"Pool {pool.topic}, account {pool.account}: cancelled"
        return
    yield f"Pool {pool.topic}, account {pool.account}"
    yield f"  worker: {pool.worker or 'none is alive'}"
    if pool.has_live_worker:
        yield from wrapped(pool.signaling or "not known yet", "  signaling: ")
    yield from wrapped(", ".join(pool.models) or "none", "  models: ")
    for model, text in sorted(pool.filters.items()):
        yield from wrapped(f"{model}: {text}", "  filter: ")
    for note in pool.notes:
        yield from wrapped(note, "  - ")
    if pool.peers:
        rows = [(p.shown, _state(p), p.rows_behind, p.unacknowledged, p.last_error or "-") for p in pool.peers]
        yield from table(("peer", "state", "behind", "unacknowledged", "last error"), rows)
    else:
        yield "  no peer was ever met"
    for error in pool.errors:
        count = f" ({error.count} times)" if error.count > 1 else ""
        yield from wrapped(f"{error.text}{count}", f"  error {when(error.at)}: ")


def _state(peer: PeerStatus) -> str:
    if peer.state == "connected":
        return "connected, in sync" if peer.in_sync else "connected, catching up"
    return f"{peer.state}, seen {when(peer.last_seen)}" if peer.last_seen else peer.state
